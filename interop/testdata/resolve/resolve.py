"""Prints the addresses of a name, what a second name is, and the first line of a server: NAME PORT NONE."""
import socket
import sys

name, port, none = sys.argv[1:]
for *_, at in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM):
    print(at[0], end=" ")
try:
    print(socket.getaddrinfo(none, port), end=" ")
except socket.gaierror as e:
    print("none" if e.errno == socket.EAI_NONAME else e, end=" ", flush=True)
print(socket.create_connection((name, int(port))).makefile().readline(), end="")
