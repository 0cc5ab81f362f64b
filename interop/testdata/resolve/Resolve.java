import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.Proxy;
import java.net.Socket;
import java.net.UnknownHostException;

/** Prints the addresses of a name, what a second name is, and the first line of a server: NAME PORT NONE. */
class Resolve {
	public static void main(String[] args) throws Exception {
		for (InetAddress a : InetAddress.getAllByName(args[0]))
			System.out.print(a.getHostAddress() + " ");
		try {
			System.out.print(InetAddress.getByName(args[2]) + " ");
		} catch (UnknownHostException e) {
			System.out.print("none ");
		}
		try (Socket s = new Socket(Proxy.NO_PROXY)) {
			s.connect(new InetSocketAddress(args[0], Integer.parseInt(args[1])));
			System.out.println(new BufferedReader(new InputStreamReader(s.getInputStream())).readLine());
		}
	}
}
