"""Prints the hosts that ccxt's classes name: class,host,kind,env, as CSV.

Reads describe() of every class of ccxt and ccxt.pro (urls of test and live,
{hostname} expanded), and the literal URLs in the websocket classes, since some
build their addresses in code. Nothing is contacted.
"""

import csv
import inspect
import re
import sys

import ccxt
import ccxt.pro

# Keys below urls that name pages for people, not addresses of an API.
PAGES = {"logo", "www", "doc", "fees", "referral", "reference", "status"}
HOST = re.compile(r"\b(https?|wss?)://([a-zA-Z0-9.-]+\.[a-zA-Z]{2,})")
TEST = re.compile(r"test|sandbox|demo|sepolia|staging|stgapi|paper|simnext|sim\.|uat|binancefuture\.com")


def hostnames(x):
    """Every host name that the class may put in for {hostname}."""
    names = [x.hostname] if getattr(x, "hostname", None) else []
    for value in (x.options.get("hostnames") or {}, x.urls.get("hostnames") or {}):
        if isinstance(value, dict):
            names += [v for v in value.values() if isinstance(v, str)]
    return names or [""]


def walk(value, path=()):
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from walk(below, path + (str(key),))
    elif isinstance(value, (list, tuple)):
        for below in value:
            yield from walk(below, path)


def addresses(x, found):
    for path, text in walk(x.urls):
        if path[0] in PAGES:
            continue
        for name in hostnames(x):
            for scheme, host in HOST.findall(text.replace("{hostname}", name)):
                env = "test" if path[0] in ("test", "demo") or TEST.search("/".join(path) + host) else "live"
                note(found, x.id, scheme, host, env)


def literals(cls, name, found):
    """URLs that stand in the source of a websocket class, outside comments."""
    lines = [line.split("  # ")[0] for line in inspect.getsource(cls).splitlines()]
    code = "\n".join(line for line in lines if not line.lstrip().startswith(("#", ":", "http")))
    code = re.sub(r'"""[\s\S]*?"""', "", code)
    for scheme, host in HOST.findall(code):
        if scheme.startswith("ws") and (name, host.lower()) not in found:
            note(found, name, scheme, host, "")  # code does not say which it is for


def note(found, name, scheme, host, env):
    key = (name, host.lower())
    kinds, envs = found.setdefault(key, (set(), set()))
    kinds.add("websocket" if scheme.startswith("ws") else "http")
    envs.add(env)


def main():
    found = {}
    namespaces = [ccxt, ccxt.pro]
    try:
        import ccxt.prediction as prediction

        namespaces.append(prediction)
    except ImportError:
        pass
    for module in namespaces:
        for name in module.exchanges:
            cls = getattr(module, name)
            addresses(cls(), found)
            if module is not ccxt:
                literals(cls, name, found)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["class", "host", "kind", "env"])
    for (name, host), (kinds, envs) in sorted(found.items()):
        out.writerow([name, host, "both" if len(kinds) > 1 else kinds.pop(), next(e for e in ("live", "test", "") if e in envs)])


if __name__ == "__main__":
    main()
