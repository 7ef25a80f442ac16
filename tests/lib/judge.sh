# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# judge.sh - runs tests, says what became of them, and counts. Source it; logs go to the folder
# $LOGS.
#
# judged NAME COMMAND... runs what calls tap and verdict, and leaves the counts for judge_count. Many
# may run side by side: what they say comes in whole reports.

passed=0 failed=0 skipped=0

# tries_after STATUS LOG: how often a machine is tried, at most. An emulated CPU may run into a
# breakpoint that the kernel has removed already, where fentry and fexit programs come and go, and
# the kernel dies of it. A test that failed before a death counts.
tries_after()
{
	if [ "$1" != 125 ] || ! grep -q 'Kernel panic' "$2" || grep -q '^not ok' "$2"; then
		echo 1
	elif grep -qE 'int3: [0-9]+ \[#' "$2"; then
		echo 8
	else
		echo 2
	fi
}

# Of what the kernel died.
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

# tap NAME COMMAND...: runs what prints TAP, reports what did not pass, and counts.
tap()
{
	local name=${1//\//-} log=$LOGS/${1//\//-}.tap try=1 status ok not_ok skips
	shift
	SECONDS=0
	"$@" >"$log" 2>&1 </dev/null
	status=$?
	while [ $((try++)) -lt "$(tries_after $status "$log")" ]; do
		echo "$name: the machine died after $SECONDS s ($(death_of "$log")): once more" |
			tee -a "$LOGS/remarks" | report
		cp "$log" "$log.died"
		"$@" >"$log" 2>&1 </dev/null
		status=$?
	done
	# A skipped test is "ok" to bats and "not ok" to cmocka.
	ok=$(grep -E '^ok' "$log" | grep -civE '# *skip')
	not_ok=$(grep -E '^not ok' "$log" | grep -civE '# *skip')
	skips=$(grep -iE '^(not )?ok.*# *skip' "$log")
	passed=$((passed + ok)) failed=$((failed + not_ok))
	[ -z "$skips" ] || skipped=$((skipped + $(wc -l <<<"$skips")))
	{
		[ -z "$skips" ] || echo "$skips"
		if [ "$not_ok" -gt 0 ] || [ $status -ne 0 ] || [ "$ok$skips" = 0 ]; then
			echo "FAILED $name (status $status, $SECONDS s), see $log:"
			grep -vE '^ok' "$log" | log_tail
			{
				echo "FAILED $name (status $status, $SECONDS s) $(death_of "$log")"
				grep -E '^not ok' "$log" | grep -viE '# *skip'
			} >>"$LOGS/remarks"
		else
			echo "passed $name ($ok tests, $SECONDS s)"
		fi
	} | report
	# It failed, and no test of it says so: what printed nothing has tested nothing.
	if [ "$not_ok" = 0 ] && { [ $status -ne 0 ] || [ "$ok$skips" = 0 ]; }; then
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
