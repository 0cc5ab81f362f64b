# Written by `proxyd exec`, and kept for programs that outlive it; see SECURITY.md.
#
# Makes what ignores the proxy variables use them: aiohttp, ccxt (synchronous)
# and websockets before 15 and its legacy client. A proxy that the program names
# itself stays. The `default` entry of a netrc file is not used by aiohttp and
# requests: it would be sent to every exchange. Nothing is imported, and nothing
# changed, before the program imports one of these. Python 3.8 and later.
import sys


def _environment_proxy(scheme, host):
    """Returns the proxy's URL for a target, None for a direct connection."""
    from urllib.request import getproxies_environment, proxy_bypass_environment

    proxies = getproxies_environment()
    if not host or proxy_bypass_environment(host, proxies):
        return None
    for name in {"wss": ("wss", "https"), "ws": ("ws", "http")}.get(scheme, (scheme,)):
        if proxies.get(name, "").startswith("http://"):
            return proxies[name]
    return None


def _aiohttp_client(module):
    session = module.ClientSession
    original = session._request

    def plain(connector):
        # Not a connector of another kind, that leads elsewhere by itself.
        tcp = sys.modules["aiohttp.connector"].TCPConnector
        names = ("connect", "_create_connection", "_wrap_create_connection")
        return isinstance(connector, tcp) and all(
            getattr(type(connector), n, None) is getattr(tcp, n, None) for n in names
        )

    def choose(self, target):
        url = self._build_url(target) if hasattr(self, "_build_url") else sys.modules["yarl"].URL(target)
        return _environment_proxy(url.scheme, url.host)

    async def _request(self, method, str_or_url, **kwargs):
        own = kwargs.get("proxy") or getattr(self, "_default_proxy", None)
        if not own and plain(self._connector):
            try:
                kwargs["proxy"] = choose(self, str_or_url)
            except (TypeError, ValueError, AssertionError):
                pass  # no URL: the original says so
        return await original(self, method, str_or_url, **kwargs)

    session._request = _request


def _aiohttp_helpers(module):
    original = getattr(module, "netrc_from_env", None)
    if original is None:
        return

    def netrc_from_env(*args, **kwargs):
        netrc = original(*args, **kwargs)
        if netrc is not None:
            netrc.hosts.pop("default", None)
        return netrc

    module.netrc_from_env = netrc_from_env


def _requests_sessions(module):
    original = module.get_netrc_auth

    def named(url):
        import os
        from netrc import netrc
        from urllib.parse import urlsplit

        paths = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
        for path in map(os.path.expanduser, paths):
            if os.path.exists(path):
                return urlsplit(url).hostname in netrc(path).hosts
        return False

    def get_netrc_auth(url, *args, **kwargs):
        auth = original(url, *args, **kwargs)
        return auth if auth is not None and named(url) else None

    module.get_netrc_auth = get_netrc_auth


class _NoAuth:
    """Keeps requests from looking for credentials in a netrc file."""

    def __call__(self, request):
        return request


def _ccxt(module):
    original = module.Exchange.__init__

    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        session = getattr(self, "session", None)
        if getattr(self, "synchronous", True) and getattr(session, "trust_env", True) is False:
            session.trust_env = True
            if session.auth is None:
                session.auth = _NoAuth()

    module.Exchange.__init__ = __init__


def _connect_head(proxy, host, port):
    from base64 import b64encode
    from urllib.parse import unquote, urlsplit

    to = urlsplit(proxy)
    target = "%s:%d" % ("[%s]" % host if ":" in host else host, port)
    head = "CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (target, target)
    if to.username is not None:
        login = "%s:%s" % (unquote(to.username), unquote(to.password or ""))
        head += "Proxy-Authorization: Basic %s\r\n" % b64encode(login.encode()).decode()
    return (to.hostname, to.port or 80), (head + "\r\n").encode()


def _check_answer(answer):
    line = answer.split(b"\r\n", 1)[0].decode("latin-1")
    if line.split(" ")[1:2] != ["200"]:
        raise ConnectionError("the proxy refused the connection: " + line)


async def _tunnel(loop, proxy, host, port):
    import socket

    address, head = _connect_head(proxy, host, port)
    info = (await loop.getaddrinfo(*address, type=socket.SOCK_STREAM))[0]
    sock = socket.socket(*info[:3])
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, info[4])
        await loop.sock_sendall(sock, head)
        answer = b""
        while not answer.endswith(b"\r\n\r\n") and len(answer) < 65536:
            got = await loop.sock_recv(sock, 1)  # no byte of what follows
            if not got:
                raise ConnectionError("the proxy closed the connection")
            answer += got
        _check_answer(answer)
    except BaseException:
        sock.close()
        raise
    return sock


def _blocking_tunnel(proxy, host, port, timeout):
    import socket

    address, head = _connect_head(proxy, host, port)
    sock = socket.create_connection(address, timeout)
    try:
        sock.sendall(head)
        answer = b""
        while not answer.endswith(b"\r\n\r\n") and len(answer) < 65536:
            got = sock.recv(1)
            if not got:
                raise ConnectionError("the proxy closed the connection")
            answer += got
        _check_answer(answer)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def _websocket_target(uri):
    """Returns the proxy of a websocket's address, with host and port."""
    from urllib.parse import urlsplit

    to = urlsplit(uri)
    return _environment_proxy(to.scheme, to.hostname), to.hostname, to.port or (443 if to.scheme == "wss" else 80)


def _websockets_legacy(module):
    import functools

    connect = getattr(module, "Connect", None) or module.connect
    original = connect.__init__

    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        direct = getattr(self, "_create_connection", None)
        # An address or a socket that the program names itself stays.
        if not isinstance(direct, functools.partial) or {"sock", "host", "port", "path", "unix"} & set(kwargs):
            return
        if getattr(direct.func, "__name__", "") != "create_connection" or not hasattr(direct.func, "__self__"):
            return
        loop, create = direct.func.__self__, direct.func

        async def create_connection(factory, host=None, port=None, **more):
            proxy = _environment_proxy("wss" if more.get("ssl") else "ws", host)
            if proxy is None:
                return await create(factory, host, port, **more)
            if more.get("ssl"):
                more.setdefault("server_hostname", host)
            for name in ("family", "proto", "flags", "local_addr", "happy_eyeballs_delay", "interleave"):
                more.pop(name, None)
            sock = await _tunnel(loop, proxy, host, port)
            try:
                return await create(factory, sock=sock, **more)
            except BaseException:
                sock.close()
                raise

        self._create_connection = functools.partial(create_connection, *direct.args, **direct.keywords)

    connect.__init__ = __init__


def _websockets_before_9(module):
    # Later ones have the legacy client here under another name.
    if getattr(vars(module).get("Connect"), "__module__", None) == module.__name__:
        _websockets_legacy(module)


def _websockets_before_15():
    version = sys.modules.get("websockets.version")
    return version is not None and int(version.version.split(".")[0]) < 15


def _websockets_asyncio(module):
    connect = module.connect
    original = getattr(connect, "create_connection", None)
    if original is None or not _websockets_before_15():
        return

    async def create_connection(self):
        import asyncio

        given = self.connection_kwargs
        proxy, host, port = _websocket_target(self.uri)
        if proxy is None or {"sock", "host", "port", "path", "unix"} & set(given):
            return await original(self)
        sock = await _tunnel(asyncio.get_running_loop(), proxy, host, port)
        self.connection_kwargs = dict(given, sock=sock)
        try:
            return await original(self)
        except BaseException:
            sock.close()
            raise
        finally:
            self.connection_kwargs = given

    connect.create_connection = create_connection


def _websockets_sync(module):
    original = module.connect
    if not _websockets_before_15():
        return

    def connect(uri, *args, **kwargs):
        proxy, host, port = _websocket_target(uri)
        if proxy is None or {"unix", "path"} & set(kwargs) or kwargs.get("sock") is not None:
            return original(uri, *args, **kwargs)
        sock = _blocking_tunnel(proxy, host, port, kwargs.get("open_timeout", 10))
        try:
            return original(uri, *args, **dict(kwargs, sock=sock))
        except BaseException:
            sock.close()
            raise

    module.connect = connect


_changes = {
    "aiohttp.client": _aiohttp_client,
    "aiohttp.helpers": _aiohttp_helpers,
    "ccxt.base.exchange": _ccxt,
    "requests.sessions": _requests_sessions,
    "websockets.asyncio.client": _websockets_asyncio,
    "websockets.client": _websockets_before_9,
    "websockets.legacy.client": _websockets_legacy,
    "websockets.sync.client": _websockets_sync,
}


class _Loader:
    """Loads a module by its own loader, then changes it. Leaves no trace."""

    def __init__(self, loader, change):
        self._loader, self._change = loader, change

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            self._change(module)
        except Exception as err:
            sys.stderr.write("proxyd: exec: %s could not be made to use the proxy, and may connect directly: %r\n" % (module.__name__, err))

    def __getattr__(self, name):
        return getattr(self._loader, name)


class _Finder:
    def find_spec(self, name, path=None, target=None):
        change = _changes.get(name)
        if change is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, change)
                return spec
        return None


def _run_next():
    """Runs the sitecustomize that this one stands in front of."""
    here, own = __file__.replace("\\", "/").rpartition("/")[0], sys.modules.pop("sitecustomize")
    mine = [(i, p) for i, p in enumerate(sys.path) if p.replace("\\", "/") == here]
    for _, p in mine:
        sys.path.remove(p)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as err:
        if err.name != "sitecustomize":
            raise
    finally:
        for i, p in mine:
            sys.path.insert(i, p)
        sys.modules.setdefault("sitecustomize", own)


sys.meta_path.insert(0, _Finder())
_run_next()
