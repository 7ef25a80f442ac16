# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# jobs.sh - runs commands side by side. Source it; call jobs_stop on exit.
#
# A job has a name, a width and a command. Of the jobs that were added, each starts as soon as the
# widths of those that run leave room for it, in the order in which they were added. A job that is
# wider than all the room there is runs alone. Two widths are words, for jobs that run beside the
# others, one of each at a time: "light", which needs little, and "patient", which takes the CPU time
# that the others leave (SCHED_IDLE).

job_names=()
declare -gA job_width=() job_command=()
declare -gA jobs_running=() # name by process id
declare -gA jobs_started=() # at which second, by process id

# job_add NAME WIDTH COMMAND...: the command may be a function.
job_add()
{
	local name=$1

	[ -z "${job_command[$name]:-}" ] || {
		echo "job_add: there is a job '$name' already" >&2
		return 1
	}
	job_names+=("$name")
	job_width[$name]=$2
	shift 2
	job_command[$name]=${*@Q}
}

# A process group of its own, so that jobs_stop ends all of it.
job_start()
{
	local idle=

	[ "${job_width[$1]}" != patient ] || ! jobs_have_other || idle=1
	set -m
	(
		set +m
		[ -z "$idle" ] || chrt --idle --pid 0 $BASHPID
		eval "${job_command[$1]}"
	) </dev/null &
	set +m
	jobs_running[$!]=$1
	jobs_started[$!]=$EPOCHSECONDS
}

# Some of those that run or wait are not patient.
jobs_have_other()
{
	local name

	for name in "${job_names[@]}" "${jobs_running[@]}"; do
		[ "${job_width[$name]}" = patient ] || return 0
	done
	return 1
}

jobs_width()
{
	local name width=0

	for name in "${jobs_running[@]}"; do
		case ${job_width[$name]} in
		light | patient) ;;
		*) width=$((width + job_width[$name])) ;;
		esac
	done
	echo $width
}

# job_fits NAME ROOM
job_fits()
{
	local width=${job_width[$1]} used name

	case $width in
	light | patient)
		for name in "${jobs_running[@]}"; do
			[ "${job_width[$name]}" != "$width" ] || return 1
		done
		;;
	*)
		used=$(jobs_width)
		[ "$used" = 0 ] || [ $((used + width)) -le "$2" ]
		;;
	esac
}

# Starts what there is room for.
jobs_fill()
{
	local room=$1 name waiting=()

	for name in "${job_names[@]}"; do
		if job_fits "$name" "$room"; then
			job_start "$name"
		else
			waiting+=("$name")
		fi
	done
	job_names=("${waiting[@]}")
}

# jobs_run ROOM DONE: runs all jobs that were added, and calls DONE NAME STATUS SECONDS when one has
# ended. (Not by wait -n, to which a job that has ended already may be unknown.)
jobs_run()
{
	local room=$1 done=$2 pid status name seconds

	jobs_fill "$room"
	while [ ${#jobs_running[@]} -gt 0 ]; do
		for pid in "${!jobs_running[@]}"; do
			! kill -0 "$pid" 2>/dev/null || continue
			wait "$pid"
			status=$?
			name=${jobs_running[$pid]} seconds=$((EPOCHSECONDS - jobs_started[$pid]))
			unset "jobs_running[$pid]" "jobs_started[$pid]" "job_command[$name]"
			jobs_fill "$room"
			"$done" "$name" $status $seconds
		done
		sleep 0.1
	done
}

# Ends what still runs.
jobs_stop()
{
	local pid

	for pid in "${!jobs_running[@]}"; do
		kill -TERM -- "-$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	jobs_running=()
}
