"""Compares the embedded catalogue with what describe.py printed, for review.

    compare.py CATALOGUE_DIR CCXT_CSV VERSION

Prints rows that the catalogue lacks, that have moved, that ccxt no longer
names, and pairs that families.csv lacks. Changes nothing.
"""

import csv
import pathlib
import sys

HOW = {
    "new": "classes that the catalogue has no id or alias for",
    "missing": "hosts that no row lists (exchange,host,kind,env,sources)",
    "moved": "hosts whose row says something else",
    "gone": "rows from ccxt that this release no longer names (older releases may)",
    "families": "exchanges that a client reaches too (client,exchange)",
}


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


class Catalogue:
    def __init__(self, base):
        data, tests = base / "data", base / "testdata"
        self.hosts = {r["host"]: r for r in rows(data / "hosts.csv")}
        self.names = {r["exchange"]: r["exchange"] for r in self.hosts.values()}
        self.names.update({r["alias"]: r["exchange"] for r in rows(data / "aliases.csv")})
        self.families = {(r["client"], r["exchange"]) for r in rows(data / "families.csv")}
        self.reviewed = {(r["class"], r["host"]) for r in rows(tests / "reviewed.csv")}

    def find(self, host):
        rest = host
        while rest:
            row = self.hosts.get(host if rest == host else "*." + rest)
            if row:
                return row
            rest = rest.partition(".")[2]
        return None


def compare(catalogue, described):
    report = {key: [] for key in HOW}
    named = set()
    for r in described:
        named.add(r["host"])
        if (r["class"], r["host"]) in catalogue.reviewed:
            continue
        exchange, row = catalogue.names.get(r["class"]), catalogue.find(r["host"])
        if not exchange:
            report["new"].append(r["class"])
        if not row:
            report["missing"].append(",".join([exchange or r["class"], r["host"], r["kind"], r["env"] or "live", "ccxt"]))
            continue
        have = [row["kind"], row["env"]]
        if row["kind"] not in (r["kind"], "both") or r["env"] not in (row["env"], ""):
            report["moved"].append(f"{r['host']}: {r['class']} says {r['kind']} {r['env']}, the row {' '.join(have)}")
        pair = (exchange, row["exchange"])
        inherited = (r["class"], "*") in catalogue.reviewed
        if exchange and row["exchange"] != exchange and r["env"] == "live" and pair not in catalogue.families and not inherited:
            report["families"].append(",".join(pair) + "  # " + r["host"])
    for host, row in catalogue.hosts.items():
        if "ccxt" in row["sources"].split(";") and host not in named and not host.startswith("*."):
            report["gone"].append(f"{row['exchange']},{host},{row['kind']},{row['env']},{row['sources']}")
    return report


def main():
    base, described, version = pathlib.Path(sys.argv[1]), rows(sys.argv[2]), sys.argv[3]
    report = compare(Catalogue(base), described)
    print(f"ccxt {version}: {len({r['class'] for r in described})} classes, {len({r['host'] for r in described})} hosts")
    for key, lines in report.items():
        lines = sorted(set(lines))
        print(f"\n{key}: {len(lines)} {HOW[key]}")
        for line in lines:
            print("  " + line)
    print("\nReview each by hand: a row needs the exchange's own word or code that dials the host.")


if __name__ == "__main__":
    main()
