# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# judge.sh - runs tests, says what became of them, and counts. Source it; logs go to the folder
# $LOGS.
#
# judged NAME COMMAND... runs what calls tap and verdict, and leaves the counts for judge_count. Many
# may run side by side: what they say comes in whole reports.

passed=0 failed=0 skipped=0

# What the kernel died of.
death_of() { grep -oE 'BUG: .*|Oops: .*|int3: .*|RIP: .*' "$1" | head -n 3 | paste -sd ' '; }

# Prints what comes from stdin, in one piece.
report()
{
	local text

	text=$(cat)
	{
		flock 9
		printf '%s\n' "$text"
	} 9<"$LOGS"
}

log_tail() { tail -n 40 | sed 's/^/    /'; }

# What failed or was run once more, for the end of a run, where it is found.
remarks() { cat "$LOGS/remarks" 2>/dev/null; }

# The tests in LOG that failed, each with what it says of that.
failures_in() { grep -A 6 -E '^not ok' "$1" | grep -E '^(not ok|#  )' | grep -viE '# *skip'; }

# tap NAME COMMAND...: runs what prints TAP, reports what did not pass, and counts.
tap()
{
	local name=${1//\//-} log=$LOGS/${1//\//-}.tap

	SECONDS=0
	"${@:2}" >"$log" 2>&1 </dev/null
	tap_judge "$name" "$log" $?
}

# tap_in_machine NAME COMMAND...: the same, once more if it fails. An emulated machine stands still
# when this one has other work to do, and the cluster in it takes members for dead that only wait.
# What fails twice has failed; what failed once is told. A number that came twice is no chance, and
# is not tried again.
tap_in_machine()
{
	local name=$1 log=$LOGS/$1.tap status
	shift

	SECONDS=0
	"$@" >"$log" 2>&1 </dev/null
	status=$?
	if [ $status != 0 ] && ! failures_in "$log" | grep -q '^# .*twice'; then
		{
			echo "$name failed after $SECONDS s (status $status), once more: $(death_of "$log")"
			failures_in "$log"
		} | tee -a "$LOGS/remarks" | report
		cp "$log" "$log.first"
		"$@" >"$log" 2>&1 </dev/null
		status=$?
	fi
	tap_judge "$name" "$log" $status
}

# tap_judge NAME LOG STATUS
tap_judge()
{
	local name=$1 log=$2 status=$3 ok not_ok skips

	# A skipped test is "ok" to bats and "not ok" to cmocka.
	ok=$(grep -E '^ok' "$log" | grep -civE '# *skip')
	not_ok=$(grep -E '^not ok' "$log" | grep -civE '# *skip')
	skips=$(grep -iE '^(not )?ok.*# *skip' "$log")
	passed=$((passed + ok)) failed=$((failed + not_ok))
	[ -z "$skips" ] || skipped=$((skipped + $(wc -l <<<"$skips")))
	{
		[ -z "$skips" ] || echo "$skips"
		if [ "$not_ok" -gt 0 ] || [ "$status" -ne 0 ] || [ "$ok$skips" = 0 ]; then
			echo "FAILED $name (status $status, $SECONDS s), see $log:"
			grep -vE '^ok' "$log" | log_tail
			{
				echo "FAILED $name (status $status, $SECONDS s) $(death_of "$log")"
				failures_in "$log"
			} >>"$LOGS/remarks"
		else
			echo "passed $name ($ok tests, $SECONDS s)"
		fi
	} | report
	# It failed, and no test of it says so: what printed nothing has tested nothing.
	if [ "$not_ok" = 0 ] && { [ "$status" -ne 0 ] || [ "$ok$skips" = 0 ]; }; then
		failed=$((failed + 1))
	fi
}

# verdict NAME COMMAND...: one test, by its exit status.
verdict()
{
	local name=$1 log=$LOGS/$1.log
	shift
	SECONDS=0
	if "$@" >"$log" 2>&1 </dev/null; then
		passed=$((passed + 1))
		echo "passed $name ($SECONDS s): $(tail -n 2 "$log" | head -n 1)" | report
	else
		failed=$((failed + 1))
		{
			echo "FAILED $name ($SECONDS s), see $log:"
			log_tail <"$log"
			{
				echo "FAILED $name ($SECONDS s)"
				log_tail <"$log" | tail -n 5
			} >>"$LOGS/remarks"
		} | report
	fi
}

judged()
{
	local name=$1
	shift
	rm -f "$LOGS/$name.count"
	passed=0 failed=0 skipped=0
	"$@"
	echo "$passed $failed $skipped" >"$LOGS/$name.count"
}

# judge_count NAME STATUS: adds what judged has left; none, or no test, is a failure.
judge_count()
{
	local count=(0 0 0)

	if ! read -ra count < <(cat "$LOGS/$1.count" 2>/dev/null) || [ "${count[*]}" = "0 0 0" ]; then
		count=(0 1 0)
		echo "FAILED $1: it ended (status $2) without a test" | tee -a "$LOGS/remarks" | report
	fi
	passed=$((passed + count[0])) failed=$((failed + count[1])) skipped=$((skipped + count[2]))
}
