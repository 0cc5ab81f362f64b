# The pod of overlays/redirect: its containers one after the other, with the users and capabilities that the
# manifest gives them, in a network that is joined to another, the world, which answers at every address.
# Run in mount, network and PID namespaces of its own. DIR has proxyd, proxyd.yaml, hosts and resolv.conf.
cd "$DIR"
export PATH="$DIR:/usr/sbin:/usr/bin:/sbin:/bin"
mount --make-rprivate /
mount --bind hosts /etc/hosts
mount --bind resolv.conf /etc/resolv.conf
mount -t tmpfs tmpfs /run
ip netns add world
ip link set lo up
ip link add d0 type veth peer name w0 netns world
ip address add 198.51.100.2/24 dev d0
ip link set d0 up
ip route add default via 198.51.100.1
ip netns exec world sh -euc '
	ip link set lo up
	ip address add 198.51.100.1/24 dev w0
	ip link set w0 up
	ip route add local 192.31.196.0/24 dev lo'
mkdir world
echo world >world/index.html
ip netns exec world /usr/bin/python3 -m http.server --directory world 80 >/dev/null 2>&1 &

as() { # USER CAPABILITIES COMMAND…
	user=$1 bounding=$2
	shift 2
	setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --inh-caps=-all --bounding-set="$bounding" "$@"
}
as "$REDIRECT_USER" -all,+net_admin /bin/sh -euc "$REDIRECT"
as "$SIDECAR_USER" -all proxyd run -c "$DIR/proxyd.yaml" >log 2>&1 &

feed() { as "$FEED_USER" -all "$@" 2>&1; }
get() { feed curl -sS --noproxy '*' --max-time 10 -o /dev/null -w '%{http_code}' "$@"; }
until curl -sf --noproxy '*' http://127.0.0.1:8878/readyz >/dev/null; do sleep 0.05; done
until ip netns exec world curl -sf --noproxy '*' http://198.51.100.1/ >/dev/null; do sleep 0.05; done
echo "direct by proxyd: $(get http://api.kraken.com/)"
echo "refused by proxyd: $(get --resolve unlisted.example:80:192.31.196.9 http://unlisted.example/)"
echo "by the variables: $(feed curl -sS --max-time 10 -o /dev/null -w '%{http_code}' -x http://127.0.0.1:8877 http://api.kraken.com/)"
echo "UDP: $(feed /usr/bin/python3 -c 'import socket
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.31.196.1", 443)); print("sent")
except OSError as e: print(type(e).__name__)')"
echo "redirected: $(grep -q '"protocol":"transparent"' log && echo yes)"
echo "rules: $(feed nft delete table inet proxyd >/dev/null && echo deleted || echo kept)"
