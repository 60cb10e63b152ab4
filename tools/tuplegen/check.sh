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

# holds DIRECTORY COMMAND…: a run that keeps its result there passes, or is invalid for no other reason than that this machine kept the generator from
# running: how busy the machine is, is not what is checked.
holds() {
    kept=$1
    shift
    "$@"
    code=$?
    [ "$code" = 0 ] || { [ "$code" = 5 ] && ! grep -qv 'the generator was late' "$kept/INVALID"; } || { echo "exit code $code"; return 1; }
    grep -q '"lost": 0,' "$kept/run.json"
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
    holds "$work/yaml" "$tuplegen" run --local "$(dirname "$0")/topologies/echo.yaml" -R 5k -d 2s -q -o "$work/yaml" \
        --fields 'id:u64=seq,word:str=zipf(100,1)' --size 96 --slo 'loss==0' || return 1
    "$tuplegen" validate "$work/yaml/run.json"
}

# The echo as a topology that listens at $in and $out over this kind of link, whoever comes.
port=$((20000 + $$ % 20000))
listening() {
    rm -f "$work/in" "$work/out"
    case $1 in
    tcp)
        port=$((port + 2))
        in=tcp:127.0.0.1:$port
        out=tcp:127.0.0.1:$((port + 1))
        ;;
    *)
        in=$1:$work/in
        out=$1:$work/out
        ;;
    esac
    cat >"$work/listening.yaml" <<END
name: echo
spouts:
  - id: load
    className: ingest
    config: { listen: "$in"$2 }
bolts:
  - id: back
    className: egress
    config: { listen: "$out" }
streams:
  - { from: load, to: back }
END
}

# A topology that runs by itself takes two loads over each kind of link, one after the other; each tuple comes back.
running() {
    for kind in shm unix tcp; do
        listening "$kind" ', fields: "id:u64,word:str"'
        "$squall" run "$work/listening.yaml" --quiet >"$work/target.log" 2>&1 &
        target=$!
        for load in 1 2; do
            "$tuplegen" run --ingest "$in" --egress "$out" -R 5k -n 5k -q --fields 'id:u64=seq,word:str=uniform(10)' --format json >"$work/running.json"
            code=$?
            "$tuplegen" validate "$work/running.json" && grep -q '"complete": 5000,' "$work/running.json" && { [ "$code" = 0 ] || [ "$code" = 5 ]; } || {
                echo "$kind, load $load: exit code $code"
                cat "$work/target.log" "$work/running.json"
                kill -KILL "$target"
                return 1
            }
        done
        kill -INT "$target"
        wait "$target"
        code=$?
        [ "$code" = 130 ] || [ "$code" = 0 ] || { echo "$kind: the topology ended with $code"; cat "$work/target.log"; return 1; }
    done
}

captured() {
    holds "$work/captured" "$tuplegen" run --capture "$(dirname "$0")/topologies/capture.yaml" -d 2s -q -o "$work/captured" || return 1
    "$tuplegen" validate "$work/captured/run.json" && grep -q 'what bolts were given compared' "$work/captured/run.json"
}

killed() {
    listening shm ', fields: "id:u64,word:str"'
    "$squall" run "$work/listening.yaml" --quiet >"$work/target.log" 2>&1 &
    target=$!
    "$tuplegen" run --ingest "$in" --egress "$out" -R 1k -d 30s -q -o "$work/killed" --fields 'id:u64=seq,word:str=uniform(10)' &
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

# Another generator, by another method, on the same echo, in turn. The stated error of a percentile is how far it lies apart over the rounds, and
# the histogram's thousandth: the two ranges must touch, and the medians lie within 30 %.
peer() {
    [ -x "$programs/examples/jlbh_like" ] || { echo "build it: cargo build --release -p squall-tuplegen --example jlbh_like"; return 1; }
    listening unix ''
    "$squall" run "$work/listening.yaml" --quiet >"$work/target.log" 2>&1 &
    target=$!
    : >"$work/ours"
    : >"$work/theirs"
    for round in 1 2 3 4 5; do
        "$tuplegen" run --ingest "$in" --egress "$out" -R 5k -d 2s --warmup 200ms -q --format csv | tail -1 | cut -d, -f18,19,20 | tr , ' ' >>"$work/ours"
        "$programs/examples/jlbh_like" "$in" "$out" 5000 2 >>"$work/theirs"
    done
    kill -INT "$target"
    wait "$target"
    awk -v q="p50 p90 p99" '
        { for (i = 1; i <= 3; i++) { v[FILENAME, i, FNR] = $i; n[FILENAME] = FNR } if (!(FILENAME in seen)) { seen[FILENAME] = 1; file[++files] = FILENAME } }
        function rank(f, i, r,   j, k, t, s) {
            for (j = 1; j <= n[f]; j++) s[j] = v[f, i, j] + 0
            for (j = 1; j <= n[f]; j++) for (k = j + 1; k <= n[f]; k++) if (s[k] < s[j]) { t = s[j]; s[j] = s[k]; s[k] = t }
            return s[r]
        }
        END {
            split(q, name, " ")
            if (n[file[1]] != 5 || n[file[2]] != 5) { print "a round is missing"; exit 1 }
            for (i = 1; i <= 3; i++) {
                al = rank(file[1], i, 1) * 0.999; am = rank(file[1], i, 3); ah = rank(file[1], i, 5) * 1.001
                bl = rank(file[2], i, 1) * 0.999; bm = rank(file[2], i, 3); bh = rank(file[2], i, 5) * 1.001
                meets = al <= bh && bl <= ah
                printf "%s: tuplegen %d ns (%d to %d), jlbh_like %d ns (%d to %d)%s\n", name[i], am, al, ah, bm, bl, bh, meets ? "" : ": apart"
                if (!meets || am <= 0) bad = 1
                if (i == 1 && (am * 1.3 < bm || bm * 1.3 < am)) { print "the medians are more than 30 % apart"; bad = 1 }
            }
            exit bad
        }' "$work/ours" "$work/theirs"
}

stranger() {
    holds "$work/stranger" "$tuplegen" run --builtin wordcount -R 50k -d 3s -q -o "$work/stranger" || return 1
    "$tuplegen" validate "$work/stranger/run.json" && grep -q 'Latency by percentile' "$work/stranger/report.html"
}

check "a stranger's first run" stranger
check "a topology in YAML, started for the run" yaml
check "running topologies over shared memory, Unix sockets and TCP" running
check "a capture of storm-loadgen, played back" captured
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
