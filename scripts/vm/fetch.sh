# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# fetch.sh - Debian's packages of other suites, kept in a cache. Source it. apt fetches and verifies,
# in a configuration of its own: this machine's sources, lists and packages stay as they are. Debian's
# mirror is $ESPALIER_MIRROR, by default http://deb.debian.org/debian.

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=${ESPALIER_MIRROR:-http://deb.debian.org/debian}
work= # what is fetched goes to this folder: make one before use_suite

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

# cache_dir KIND: makes and prints $ESPALIER_CACHE/KIND, by default ~/.cache/espalier/KIND.
cache_dir()
{
	local cache=${ESPALIER_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/espalier}

	mkdir -p "$cache/$1" 2>/dev/null || die "the cache $cache cannot be written; set ESPALIER_CACHE"
	(cd "$cache/$1" && pwd -P)
}

need_tools()
{
	local tool

	PATH=$PATH:/usr/sbin:/sbin
	for tool; do
		command -v "$tool" >/dev/null || die "$tool is missing; scripts/install-packages vm installs what is needed"
	done
	[ -r $keyring ] || die "$keyring is missing; scripts/install-packages vm installs it"
}

# apt with sources, lists, caches and an (empty) list of installed packages under $work alone.
own_apt()
{
	local tool=$1
	shift
	"$tool" -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State="$work/state" -o Dir::State::status="$work/status" \
		-o Dir::Cache="$work/cache" -o APT::Architecture=amd64 -o APT::Architectures=amd64 \
		-o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3 \
		-o APT::Update::Error-Mode=any "$@"
}

# use_suite SUITE: what own_apt knows from here on.
use_suite()
{
	mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
	: >"$work/status"
	echo "deb [signed-by=$keyring] $mirror $1 main" >"$work/sources.list"
	own_apt apt-get update || die "the list of packages of $1 cannot be had from $mirror"
}

# fetch_packages PACKAGE...: into $work.
fetch_packages()
{
	(cd "$work" && own_apt apt-get download "$@") || die "$* cannot be fetched"
}
