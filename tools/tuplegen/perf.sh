#!/bin/sh
# Runs the standard workloads one after another; their results are JSON lines in DIRECTORY/runs.jsonl. A run that fails is told and stays in.
#
# usage: perf.sh TUPLEGEN DIRECTORY [OPTION OF `tuplegen run`…]
set -u
tuplegen=$1
out=$2
shift 2
[ $# -gt 0 ] || set -- -d 3s
rm -rf "$out"
mkdir -p "$out" || exit 1
n=0

# one ARGUMENT…: a run.
one() {
    n=$((n + 1))
    dir=$out/$(printf '%02d' "$n")
    echo "$*" >&2
    "$tuplegen" run "$@" -q -o "$dir" --format csv | tail -1 >&2
    [ ! -f "$dir/run.json" ] || "$tuplegen" report "$dir" --format jsonl >>"$out/runs.jsonl"
}

for name in const const-null const-id-null simplified-wordcount file-wordcount; do
    one --builtin "$name" -R max "$@"
done
for name in const-null const-id-null file-wordcount; do
    one --builtin "$name" -R max --acks "$@"
done
one --builtin low-throughput -R 10 "$@"
one --builtin back-pressure -R 500 "$@"
for rate in 500 5k 50k; do
    one --builtin throughput-vs-latency -R "$rate" "$@"
    one --builtin throughput-vs-latency -R "$rate" --acks "$@"
done
for size in 32 288 1344; do
    for rate in 100k 500k 1M; do
        one --builtin echo -R "$rate" --size "$size" "$@"
    done
done
one --builtin rekey -R 50k "$@"
one --builtin yahoo -R 100k "$@"
one --builtin yahoo -R 100k --acks "$@"
"$tuplegen" validate "$out"/*/run.json >&2
