"""What kv-compare measured, as text: tables, goals, and a chart."""
import os
import statistics
import subprocess

OURS = ("penncloud-1", "penncloud")
CHART = (("plain", "put 256 B", "put 256 B"),
         ("delayed", "put 256 B", "put 256 B, each sync slower by {ms:g} ms"),
         ("plain", "get 256 B", "get 256 B"))

# Row, what it is compared with (of several the best), at least so many times.
GOALS = (
    ("put 256 B, 1 client", ("redis",), 1.5),
    ("put 256 B, 16 clients", ("redis",), 2),
    ("put 256 B, 64 clients", ("redis",), 2.5),
    ("put 256 B, 64 clients", ("etcd",), 8),
    ("put 256 B, 64 clients", ("floor",), 0.2),
    ("put 256 B, 256 clients", ("redis",), 4),
    ("get 256 B, 64 clients", ("redis",), 1),
    ("get 256 B, 64 clients", ("etcd",), 15),
    ("put 4 MiB, 4 clients", ("redis", "postgres"), 2),
    ("put 4 MiB, 4 clients", ("floor",), 0.4),
)
CELL_GOAL, SERVE_GOAL = 48, 1.0
BUSY = 0.2  # cores that others use

NOTES = """\
* Every put is on three disks before it is answered. PennCloud: three storage
  processes and a coordinator, all three in the in-sync set. Redis: a primary
  and two replicas, `appendfsync always`, each put is SET and WAIT 2 in one
  request; no RDB files besides. etcd: three members; a put needs two of the
  three disks, gets are linearizable, the load goes to the leader.
  PostgreSQL: a primary and two standbys, `synchronous_standby_names = '2
  (s2, s3)'`, `synchronous_commit = on`; one INSERT ... ON CONFLICT DO UPDATE a
  transaction. All else is as the packages have it, but for two waits of 5 s
  (Redis' `repl-diskless-sync-delay`, PostgreSQL's
  `wal_retrieve_retry_interval`), which are taken out. Gets of Redis and of
  PostgreSQL go to the primary, which answers alone, and may be stale once it
  has been replaced; those of PennCloud and etcd may not.
* PennCloud seals what its processes say to each other and to clients; the
  others speak plain text here.
* The load is made alike for all: one thread, one loop, one request in flight
  a client; `pennctl bench kv` for PennCloud, `bench_load` for the others, in
  their own protocols (etcd: gRPC, for Debian has no load generator for it and
  its JSON gateway would cost more). Clients of `bench_load` have a
  connection each; those of `pennctl` share one to each storage process, as
  the gateway's do, so a wakened process finds more than one request at once.
* The floor is what the disk gives to three files, on each of which N clients'
  records are one write and one fdatasync, the next group when all are done.
* Records per fdatasync and the slower disk come from runs of their own, in
  which a supervisor sees each sync of every process
  (`tests/bench/sync_delay.c`); it counts the records of three nodes and all
  their syncs, whatever file they are of.
* Memory is what is resident (Pss) when the store has come to rest, on all
  nodes, by three; PostgreSQL's does not hold the table, which is in the page
  cache. Served again means: all processes were killed at once with SIGKILL
  and started at once; a get is answered, then a put. For PennCloud every
  tablet must be open first. In sync again means: one node, in the others no
  primary, was killed with SIGKILL when all rested, and started at once; then
  it says that it has what the others have (PennCloud: a part in each tablet
  that commits wait for; Redis: its link to the primary is up; etcd: it has
  applied what the others know of; PostgreSQL: it is a synchronous standby
  that streams).
"""


def rates(result, part, row, name):
    runs = result.get(part, {}).get("rows", {}).get(row, {}).get(name, [])
    return [m["rate"] for m in runs]


def number(v):
    if v is None:
        return "-"
    return f"{v:,.0f}" if v >= 100 else f"{v:.1f}" if v >= 10 else f"{v:.2f}"


def spread(values, form=number):
    """median (min to max)"""
    if not values:
        return "-"
    return (f"{form(statistics.median(values))} "
            f"({form(min(values))} to {form(max(values))})")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |",
             "|" + "---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(r) + " |" for r in rows] + [""]


def median_of(runs, key):
    values = [m[key] for m in runs if m[key] is not None]
    return statistics.median(values) if values else None


def per_system(result, part, cell, rows="rows"):
    """A table with one line a row and one column a system."""
    names = list(result["systems"])
    lines = []
    for row, by in result[part][rows].items():
        lines.append([row] + [cell(by[n]) if n in by else "-" for n in names])
    return table([""] + [result["systems"][n] for n in names], lines)


def speed(runs):
    return spread([m["rate"] for m in runs])


def latency(runs):
    return (f"{number(median_of(runs, 'p50_ms'))} / "
            f"{number(median_of(runs, 'p99_ms'))}")


def cpu(runs):
    return " + ".join(f"{median_of(runs, k):.2f}"
                      for k in ("cpu", "cpu_generator", "cpu_others"))


def sealing(runs):
    share = median_of(runs, "sealing")
    return "-" if share is None else f"{share:.0%}"


def grouped(runs):
    return number(median_of(runs, "records_per_sync"))


# ---- goals ----

def ratios(result, row, ours, others):
    """Run by run: ours over the best of the others."""
    mine = rates(result, "plain", row, ours)
    columns = [rates(result, "plain", row, o) for o in others]
    if not mine or not all(columns):
        return []
    return [m / max(c) for m, *c in zip(mine, *columns) if max(c) > 0]


def judged(values, least):
    if not values:
        return "-"
    met = "met" if statistics.median(values) >= least else "missed"
    return f"{spread(values, lambda v: f'{v:.2f}')}, {met}"


def goal_rows(result):
    titles = dict(result["systems"])
    for row, others, least in GOALS:
        names = " or ".join(titles.get(o, o) for o in others)
        said = (f"{least:.0%} of {names}" if least < 1
                else f"{least:g} x {names}")
        columns = [ratios(result, row, ours, others) for ours in OURS]
        if any(columns):
            yield [f"{row}: at least {said}"] + [
                judged(r, least) for r in columns]
    memory = result.get("memory", {}).get("penncloud")
    if memory:
        for said, v, most in (
                (f"at most {CELL_GOAL} B a cell over its key and value",
                 memory["over_payload"], CELL_GOAL),
                (f"served again {SERVE_GOAL:g} s after kill -9 of all",
                 memory["put_s"], SERVE_GOAL),
                (f"in sync again {SERVE_GOAL:g} s after kill -9 of one node",
                 memory["one_s"], SERVE_GOAL)):
            met = "met" if v <= most else "missed"
            yield [said, "-", f"{number(v)}, {met}"]


# ---- the whole ----

def head(result):
    m, a = result["machine"], result["plain"]
    lines = [
        f"Measured on {m['date']}: {m['cores']} cores ({m['cpu']}), "
        f"{m['memory_gib']:.0f} GiB, Linux {m['kernel']}; {result['runs']} "
        f"runs of {result['seconds']} s a figure, the systems by turns. "
        f"Load average {m['load_before'][0]:.1f} before and "
        f"{m['load_after'][0]:.1f} after, its own in it."]
    used = [r["cpu_others"] for part in ("plain", "delayed")
            for by in result.get(part, {}).get("rows", {}).values()
            for runs in by.values() for r in runs]
    lines += [] if not used else [
        f"Other programs on the machine, and its host, took {spread(used)} "
        f"cores during the runs; all systems together took "
        f"{a['idle_cores']:.2f} while nobody asked."]
    if used and statistics.median(used) > BUSY:
        lines.append("So the machine was busy with other work: the spreads "
                     "are wide, and the ratios rough.")
    if a["disk_alone"]:
        lines.append("The disk alone, one file, one record of 256 B a sync: "
                     f"{spread(a['disk_alone'])} fdatasync/s before and after.")
    return lines + [""]


def sections(result):
    a = result["plain"]
    if a["rows"]:
        yield "Operations a second: median (least to greatest)", \
            per_system(result, "plain", speed)
    goals = list(goal_rows(result))
    if goals:
        yield "Goals, as ratios within one round", table(
            ["", *(result["systems"].get(n, n) for n in OURS)], goals)
    if "delayed" in result:
        ms = result["added_ms"]
        yield f"Operations a second with {ms:g} ms added to every sync", \
            per_system(result, "delayed", speed)
    if result.get("memory"):
        lines = [[result["systems"][n],
                  number(max(m["over_payload"], 0) or None),
                  f"{m['full'] / 2 ** 20:,.0f} ({m['empty'] / 2 ** 20:,.0f})",
                  f"{m['get_s']:.2f}", f"{m['put_s']:.2f}",
                  f"{m['one_s']:.2f}"]
                 for n, m in result["memory"].items()]
        yield f"{result['cells']:,} cells of 16 + 256 B", table(
            ["", "B a cell and node over key and value",
             "MiB resident, all nodes (empty)", "s from kill -9 to a get",
             "s to a put", "s from kill -9 of one to it in sync"], lines)
    if not a["rows"]:
        return
    yield "Latency in ms: p50 / p99", per_system(result, "plain", latency)
    if "delayed" in result:
        yield "Records per fdatasync, no delay added", \
            per_system(result, "delayed", grouped, "counted")
        yield (f"Records per fdatasync with {result['added_ms']:g} ms added",
               per_system(result, "delayed", grouped))
    yield "Cores used: store + load generator + others on the machine", \
        per_system(result, "plain", cpu)
    yield "Of the cores of store and generator, for sealing and opening", \
        per_system(result, "plain", sealing)


def text(result):
    lines = head(result)
    for title, body in sections(result):
        lines += [title, ""] + body
    return "\n".join(lines)


def markdown(result):
    lines = ["# The storage engine beside other stores", "",
             "Written by `make bench` (tests/bench/kv-compare); figures of "
             "one run on one machine, to be read as ratios.", "",
             "![](kv-compare.svg)", ""]
    lines += head(result)
    for title, body in sections(result):
        lines += [f"## {title}", ""] + body
    return "\n".join(lines + ["## What is compared", "", NOTES])


def chart_data(result, part, prefix):
    """One line a row, one column a system, - where there is nothing."""
    lines = []
    for row in result.get(part, {}).get("rows", {}):
        if row.startswith(prefix):
            cells = [rates(result, part, row, n) for n in result["systems"]]
            lines.append(" ".join([row.split(", ")[1].split()[0]] + [
                f"{statistics.median(c):.1f}" if c else "-" for c in cells]))
    return lines


def chart(result, path, gnuplot):
    panels = [(chart_data(result, part, prefix),
               title.format(ms=result["added_ms"]))
              for part, prefix, title in CHART]
    panels = [p for p in panels if p[0]]
    titles = list(result["systems"].values())
    script = [
        f"set terminal svg size 1000,{330 * len(panels)} font 'sans-serif,12'"
        " background 'white'", f"set output '{path}'",
        f"set multiplot layout {len(panels)},1",
        "set style data histograms", "set style histogram clustered gap 1",
        "set style fill solid 0.9 noborder", "set logscale y",
        "set yrange [50:*]",
        "set format y '10^{%L}'", "set ylabel 'operations/s'",
        "set xlabel 'clients'", "set grid y", "set datafile missing '-'",
        "set key outside right top"]
    colours = ("#1f5fa8", "#6fa8dc", "#c0392b", "#e69f00", "#4c9a5b",
               "#999999")
    for i, (rows, title) in enumerate(panels):
        script += [f"$data{i} << END", *rows, "END", f"set title '{title}'"]
        script.append("plot " + ", ".join(
            f"$data{i} using {j + 2}:xtic(1) title '{t}' linecolor rgb "
            f"'{colours[j]}'" for j, t in enumerate(titles)
            if any(r.split()[j + 1] != "-" for r in rows)))
    script += ["unset multiplot", ""]
    subprocess.run([gnuplot], input="\n".join(script), text=True, check=True,
                   timeout=60)


def write(result, folder, gnuplot):
    if not result["plain"]["rows"]:
        return
    with open(os.path.join(folder, "kv-compare.md"), "w") as f:
        f.write(markdown(result))
    chart(result, os.path.join(folder, "kv-compare.svg"), gnuplot)
