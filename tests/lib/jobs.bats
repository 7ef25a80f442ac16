#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# What runs tests side by side, and counts them: jobs.sh and judge.sh; and that no test of tests/vm
# is left out.

setup()
{
	cd "$BATS_TEST_DIRNAME/../.." || return
	export LOGS=$BATS_TEST_TMPDIR
}

# scheduler SCRIPT: in a shell of its own, with the functions below.
scheduler()
{
	bash -uc '. tests/lib/jobs.sh; . tests/lib/judge.sh; trap jobs_stop EXIT; eval "$1"' scheduler "$1" 3>&-
}

ended() { echo "$1:$2"; }

prints() { printf '%s\n' "$@"; }

running() { find "$LOGS" -name 'running-*' | wc -l; }

# peek NAME MANY: how many are seen to run at once, this one among them. Waits until somebody has
# seen so MANY.
peek()
{
	local try most=0 now

	touch "$LOGS/running-$1"
	for ((try = 0; try < 1200; try++)); do
		now=$(running)
		[ "$now" -le "$most" ] || most=$now
		[ "$most" -lt "$2" ] || touch "$LOGS/met"
		[ ! -e "$LOGS/met" ] || break
		sleep 0.1
	done
	sleep 0.2
	now=$(running)
	[ "$now" -le "$most" ] || most=$now
	echo "$most" >"$LOGS/saw-$1"
	rm "$LOGS/running-$1"
}

# Its scheduling class: SCHED_OTHER or SCHED_IDLE
class() { chrt --pid $BASHPID | sed -n 's/.*policy: //p' >"$LOGS/class-$1"; }

# dies TEXT STATUS: the first time; then all is well
dies()
{
	if mkdir "$LOGS/died" 2>/dev/null; then
		echo "$1"
		exit "$2"
	fi
	echo "ok 1 a"
}

export -f ended prints running peek class dies

# judged NAME COMMAND...: as one job; what is said is in said, and last, the counts.
judge()
{
	scheduler "job_add $1 1 judged ${*@Q}; jobs_run 1 judge_count; echo \$passed \$failed \$skipped" >"$LOGS/said"
}

said() { grep -q "$1" "$LOGS/said"; }
counts() { [ "$(tail -n 1 "$LOGS/said")" = "$*" ]; }

@test "all jobs run, each with its status" {
	[ "$(scheduler 'job_add one 1 true; job_add two 1 false; job_add three 1 eval "exit 7"
		jobs_run 2 ended' | sort | xargs)" = "one:0 three:7 two:1" ]
}

@test "arguments come as they were given" {
	[ "$(scheduler 'job_add odd 1 printf "%s|" "a b" "\$HOME" "it'\''s" "" "*"
		jobs_run 1 true')" = "a b|\$HOME|it's||*|" ]
}

@test "no more run at once than there is room for, and no fewer" {
	[ "$(scheduler 'for name in 1 2 3 4 5; do job_add $name 1 peek $name 2; done
		jobs_run 2 ended' | wc -l)" = 5 ]
	[ "$(cat "$LOGS"/saw-* | sort -n | tail -n 1)" = 2 ]
}

@test "one at a time, in the order in which they were added" {
	[ "$(scheduler 'for name in 2 1 3; do job_add $name 1 peek $name 1; done
		jobs_run 1 ended' | xargs)" = "2:0 1:0 3:0" ]
	[ "$(cat "$LOGS"/saw-* | sort -n | tail -n 1)" = 1 ]
}

@test "a wide job has the room for itself, narrow ones are beside each other" {
	[ "$(scheduler 'job_add wide 2 peek wide 1; job_add narrow 1 eval "rm $LOGS/met; peek narrow 2"
		job_add other 1 peek other 2; job_add wider 9 peek wider 1
		jobs_run 2 ended' | wc -l)" = 4 ]
	[ "$(cat "$LOGS/saw-wide")" = 1 ]
	[ "$(cat "$LOGS/saw-wider")" = 1 ]
	[ "$(cat "$LOGS/saw-narrow" "$LOGS/saw-other" | sort -n | tail -n 1)" = 2 ]
}

@test "patient jobs take what others leave, one at a time, and all when there are no others" {
	[ "$(scheduler 'job_add idle patient eval "class idle; peek idle 2"
		job_add next patient eval "until [ -e $LOGS/met ]; do sleep 0.1; done; [ ! -e $LOGS/running-idle ]"
		job_add machine 1 peek machine 2
		jobs_run 1 ended; job_add alone patient class alone; jobs_run 1 ended' | sort | xargs)" = \
		"alone:0 idle:0 machine:0 next:0" ]
	[ -e "$LOGS/met" ]
	[ "$(cat "$LOGS/class-idle")" = SCHED_IDLE ]
	[ "$(cat "$LOGS/class-alone")" = SCHED_OTHER ]
}

@test "a light job runs beside the others, one at a time" {
	[ "$(scheduler 'job_add machine 9 peek machine 3; job_add idle patient peek idle 3
		job_add light light eval "class light; peek light 3"
		job_add next light eval "[ -e $LOGS/saw-light ]"
		jobs_run 1 ended' | sort | xargs)" = "idle:0 light:0 machine:0 next:0" ]
	[ -e "$LOGS/met" ]
	[ "$(cat "$LOGS/class-light")" = SCHED_OTHER ]
}

@test "no two jobs have one name, unless the first has ended" {
	[ "$(scheduler 'job_add one 1 true; job_add one 1 true 2>/dev/null || echo refused
		jobs_run 1 ended; job_add one 1 false; jobs_run 1 ended' | xargs)" = "refused one:0 one:1" ]
}

@test "who ends takes the jobs along, and what they started" {
	scheduler 'job_add one 1 eval "sleep 60 & echo \$! >$LOGS/pid; wait"
		jobs_fill 1
		until [ -s "$LOGS/pid" ]; do sleep 0.05; done'
	for ((try = 0; try < 600; try++)); do
		kill -0 "$(cat "$LOGS/pid")" 2>/dev/null || break
		sleep 0.05
	done
	[ $try -lt 600 ]
}

@test "counts: passed, failed, and skipped as bats and as cmocka say it" {
	judge mixed tap mixed prints 1..6 'ok 1 a' 'ok 2 b' 'not ok 3 c' 'ok 4 d # skip why' \
		'not ok 5 # SKIP e' 'ok 6 f'
	counts 3 1 2
	said '^FAILED mixed'
	said '^    not ok 3 c'
	judge good tap good prints 'ok 1 a' 'ok 2 b'
	counts 2 0 0
	said '^passed good (2 tests'
}

@test "what fails but for its tests is one failure more" {
	judge late tap late bash -c 'echo "ok 1 a"; exit 3'
	counts 1 1 0
	judge both tap both bash -c 'echo "ok 1 a"; echo "not ok 2 b"; exit 1'
	counts 1 1 0
}

@test "what prints no test fails, whatever its status" {
	judge silent tap silent true
	counts 0 1 0
	said '^FAILED silent'
	judge plan tap plan prints 1..0
	counts 0 1 0
	judge missing tap missing "$LOGS/there-is-no-such-program"
	counts 0 1 0
	judge second eval 'tap first prints "ok 1 a"; tap second true'
	counts 1 1 0
}

@test "all skipped is no failure" {
	judge skipped tap skipped prints 'ok 1 a # skip why'
	counts 0 0 1
	said 'a # skip why'
}

@test "a job that dies, or judges nothing, is a failure" {
	judge dead eval 'tap dead prints "ok 1 a"; kill -KILL $BASHPID'
	counts 0 1 0
	said '^FAILED dead: .*status 137'
	judge empty true
	counts 0 1 0
	said '^FAILED empty'
	judge exits exit 0
	counts 0 1 0
}

@test "what an earlier run has counted does not count" {
	judge one tap one prints 'ok 1 a'
	judge one exit 0
	counts 0 1 0
}

@test "the counts of several jobs are added up" {
	scheduler 'job_add a 1 judged a tap a prints "ok 1 a" "not ok 2 b"
		job_add b 1 judged b eval "verdict b true; tap c prints \"ok 1\" \"ok 2 # skip\""
		job_add d 1 judged d verdict d false
		jobs_run 2 judge_count; echo $passed $failed $skipped' >"$LOGS/said"
	counts 3 2 1
}

@test "verdict: one test by its exit status" {
	judge right verdict right true
	counts 1 0 0
	judge wrong verdict wrong bash -c 'echo why; false'
	counts 0 1 0
	said '^    why'
}

@test "what failed is told once more at the end" {
	judge a tap a prints 'ok 1' 'not ok 2 - b'
	judge c verdict c bash -c 'echo why; false'
	judge d exit 3
	[ "$(scheduler remarks | sed 's/([^)]*)/()/')" = "FAILED a () 
not ok 2 - b
FAILED c ()
    why
FAILED d: it ended () without a test" ]
}

@test "a machine that fails is run once more, and what it failed of is told" {
	judge died tap_in_machine died bash -c 'dies "BUG: a slab
Kernel panic" 125'
	counts 1 0 0
	said 'failed after .* s (status 125), once more: BUG: a slab'
	rmdir "$LOGS/died"
	judge failed tap_in_machine failed bash -c 'dies "ok 1 - a
# up
not ok 2 - b
#   an outage
ok 3 - c" 1'
	counts 1 0 0
	[ "$(scheduler remarks | tail -n 2)" = "not ok 2 - b
#   an outage" ]
	judge always tap_in_machine always bash -c 'echo x >>"$LOGS/tries"; echo "not ok 1 a"; exit 1'
	counts 0 1 0
	[ "$(wc -l <"$LOGS/tries")" = 2 ]
}

@test "a number that came twice fails, and nothing but a machine is run again" {
	judge twice tap_in_machine twice bash -c 'dies "not ok 1 - a
#   numbers that came twice on the wire: 5, expected 0" 1'
	counts 0 1 0
	rmdir "$LOGS/died"
	judge named tap_in_machine named bash -c 'dies "not ok 1 - no number twice
#   an outage" 1'
	counts 1 0 0
	rmdir "$LOGS/died"
	judge panic tap panic bash -c 'dies "Kernel panic" 125'
	counts 0 1 0
	rmdir "$LOGS/died"
	judge good tap_in_machine good bash -c 'dies "ok 1 a" 0'
	counts 1 0 0
	said '^passed good'
}

@test "reports come whole, whoever else reports" {
	scheduler 'for name in 1 2 3 4; do
			job_add $name 1 eval "for i in {1..10}; do printf \"$name\n%.0s\" {1..5000} | report; done"
		done
		jobs_run 4 true' >"$LOGS/out"
	[ "$(wc -l <"$LOGS/out")" = 200000 ]
	[ -z "$(uniq -c "$LOGS/out" | awk '$1 % 5000')" ]
}

# Those that the file names, and those that it does not.
@test "each test of tests/vm is in one machine" {
	kernels="@6.1 @6.12"
	for file in tests/vm/machines /dev/null; do
		machines=$(MACHINES=$file tests/vm/run --machines)
		[ -z "$(cut -d ' ' -f 2 <<<"$machines" | sort | uniq -d)" ]
		[ "$(grep -o '@.*' <<<"${machines// /$'\n'}" | sort -u | xargs)" = "$kernels" ]
		kernels=
		{
			find tests/vm -name '*.c' -exec basename {} .c \;
			grep -lE '^finish$' tests/vm/* | xargs -n 1 basename
			echo test_link
		} | sort | diff - <(cut -d ' ' -f 3- <<<"$machines" | tr ' ' '\n' | sed 's/@.*//' | sort)
	done
}
