#!/bin/sh
# The checks of tuplegen that need real processes and real time; `make test-tuplegen` runs them. Counts must match exactly. What depends on time is
# tried up to three times: a machine that is busy may fail it once, a tuplegen that is wrong fails it always.
#
# usage: check.sh DIRECTORY-OF-THE-PROGRAMS [short]
set -u
programs=$1
short=${2:-}
tuplegen=$programs/tuplegen
squall=$programs/squall
work=$(mktemp -d "${TMPDIR:-/tmp}/tuplegen-check.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0

# check NAME COMMAND…: the command is tried three times.
check() {
    name=$1
    shift
    for try in 1 2 3; do
        if "$@" >"$work/log" 2>&1; then
            echo "passed  $name"
            return
        fi
    done
    echo "FAILED  $name:"
    tail -40 "$work/log" | sed 's/^/        /'
    failures=$((failures + 1))
}

# exits CODE COMMAND…
exits() {
    due=$1
    shift
    "$@"
    code=$?
    [ "$code" = "$due" ] || { echo "exit code $code where $due is due"; return 1; }
}

stall() {
    exits 0 "$tuplegen" run --builtin const-null --service 1us --stall 2s:500ms -R 10k -d 8s -q -o "$work/stall" \
        --slo 'p99>=100ms' --slo 'send.p50<5ms' --slo 'loss==0' || return 1
    "$tuplegen" validate "$work/stall/run.json"
}

service() {
    "$tuplegen" knee --builtin back-pressure --service 200us --slo 'p99<20ms' --lo 1k --hi 50k -d 2s --tolerance 2% --format json -q >"$work/knee.json" || return 1
    cat "$work/knee.json"
    "$tuplegen" validate "$work/knee.json" || return 1
    rate=$(sed -n 's/^  "rate": \([0-9]*\).*/\1/p' "$work/knee.json")
    # 200 us each: 5000 a second, within 5 percent.
    [ "$rate" -ge 4750 ] && [ "$rate" -le 5250 ]
}

itself() {
    load='--builtin const-null -R 20k -d 1s'
    "$tuplegen" compare --a "$load" --b "$load" --trials 5 --format json >"$work/compare.json" || return 1
    cat "$work/compare.json"
    "$tuplegen" validate "$work/compare.json" && grep -q '"differs": false' "$work/compare.json"
}

ceiling() {
    # Records so large that the buffers on the way do not hold what is too much.
    exits 5 "$tuplegen" run --builtin back-pressure --service 200us -R 10k -d 4s --drain 500ms --size 1024 -q
}

yaml() {
    exits 0 "$tuplegen" run --local "$(dirname "$0")/topologies/echo.yaml" -R 5k -d 2s -q -o "$work/yaml" \
        --fields 'id:u64=seq,word:str=zipf(100,1)' --size 96 --slo 'loss==0' || return 1
    "$tuplegen" validate "$work/yaml/run.json"
}

# The echo as a topology that listens at $work/in and $work/out, whoever comes.
listening() {
    rm -f "$work/in" "$work/out"
    cat >"$work/listening.yaml" <<END
name: echo
spouts:
  - id: load
    className: ingest
    config: { listen: "$1:$work/in"$2 }
bolts:
  - id: back
    className: egress
    config: { listen: "$1:$work/out" }
streams:
  - { from: load, to: back }
END
}

killed() {
    listening shm ', fields: "id:u64,word:str"'
    "$squall" run "$work/listening.yaml" --quiet >"$work/target.log" 2>&1 &
    target=$!
    "$tuplegen" run --ingest "shm:$work/in" --egress "shm:$work/out" -R 1k -d 30s -q -o "$work/killed" --fields 'id:u64=seq,word:str=uniform(10)' &
    load=$!
    sleep 3
    kill -9 "$target"
    began=$(date +%s)
    wait "$load"
    code=$?
    took=$(($(date +%s) - began))
    cat "$work/target.log"
    [ "$code" = 1 ] && [ "$took" -lt 15 ] && grep -q 'target is gone' "$work/killed/ERROR" && "$tuplegen" validate "$work/killed/run.json"
}

interrupted() {
    "$tuplegen" run --builtin wordcount -R 5k -d 60s -q -o "$work/interrupted" &
    load=$!
    sleep 2
    kill -INT "$load"
    wait "$load"
    code=$?
    [ "$code" = 130 ] && "$tuplegen" validate "$work/interrupted/run.json" && grep -q '"interrupted": true' "$work/interrupted/run.json"
}

# Another generator, by another method, on the same echo, in turn: the medians of three runs each agree within 30 %.
peer() {
    [ -x "$programs/examples/jlbh_like" ] || { echo "build it: cargo build --release -p squall-tuplegen --example jlbh_like"; return 1; }
    listening unix ''
    "$squall" run "$work/listening.yaml" --quiet >"$work/target.log" 2>&1 &
    target=$!
    : >"$work/ours"
    : >"$work/theirs"
    for round in 1 2 3; do
        "$tuplegen" run --ingest "unix:$work/in" --egress "unix:$work/out" -R 5k -d 2s --warmup 200ms -q --format csv | tail -1 | cut -d, -f18,19,20 | tr , ' ' >>"$work/ours"
        "$programs/examples/jlbh_like" "unix:$work/in" "unix:$work/out" 5000 2 >>"$work/theirs"
    done
    kill -INT "$target"
    wait "$target"
    echo "tuplegen: p50 p90 p99 in ns"; cat "$work/ours"
    echo "jlbh_like:"; cat "$work/theirs"
    ours=$(sort -n "$work/ours" | sed -n '2s/ .*//p')
    theirs=$(sort -n "$work/theirs" | sed -n '2s/ .*//p')
    [ "$((ours * 10))" -ge "$((theirs * 7))" ] && [ "$((theirs * 10))" -ge "$((ours * 7))" ]
}

stranger() {
    exits 0 "$tuplegen" run --builtin wordcount -R 50k -d 3s -q -o "$work/stranger" || return 1
    "$tuplegen" validate "$work/stranger/run.json" && grep -q 'Latency by percentile' "$work/stranger/report.html"
}

check "a stranger's first run" stranger
check "a topology in YAML, started for the run" yaml
check "a killed target is an error that says so, and the part is kept" killed
check "Ctrl-C keeps the report" interrupted
check "at twice its ceiling: INVALID" ceiling
if [ "$short" != short ]; then
    check "a sink that stalls 500 ms shows in the intended p99, not in the actual p50" stall
    check "a sink of fixed service time has its knee within 5 %" service
    check "another generator measures the same on the same echo" peer
    check "A against A: no detectable difference" itself
fi
exit "$failures"
