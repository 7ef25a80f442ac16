#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
#
# Manual pages, completion and versions say what the programs do; make install puts all in place.

setup()
{
	cd "$BATS_TEST_DIRNAME/../.." || return
	PATH=$PWD/build:$PATH
}

# The names behind .It MACRO in this section, or the whole page, of a manual page.
items() # FILE MACRO [SECTION]
{
	awk -v macro="$2" -v section="${3:-}" '
		/^[.]S[sh] / { inside = section == "" || $2 == section }
		inside && $1 == ".It" && $2 == macro { print $3 }' "docs/man/$1" | sort -u
}

@test "mandoc finds nothing wrong with the manual pages" {
	# Our own pages refer to each other, installed or not.
	run mandoc -Tlint docs/man/*.[58]
	found=$(grep -vE 'referenced manual not found: Xr (espalier|ip-xfrm)|outdated mandoc.db' <<<"$output") || true
	[ "$found" = "" ]
	for page in docs/man/*.[58]; do
		[ "$(mandoc -Tascii "$page" | wc -l)" -gt 50 ]
	done
}

@test "espalier.conf(5) has each key of the configuration, and no other" {
	for section in Cluster Interface Member; do
		sed -n "s/^\t\[CONFIG_[A-Z_0-9]*\] = {\"$section\", \"\([A-Za-z]*\)\",.*/\1/p" agent/config.c |
			sort >"$BATS_TEST_TMPDIR/keys"
		[ -s "$BATS_TEST_TMPDIR/keys" ]
		diff "$BATS_TEST_TMPDIR/keys" <(items espalier.conf.5 Ic $section)
	done
}

@test "espalier.conf(5) has each default of the configuration" {
	while read -r key default; do
		text=$(sed -n "/^[.]It Ic $key$/,/^[.]It\|^[.]El/p" docs/man/espalier.conf.5 | tr '\n' ' ')
		[[ $text == *"$default"* ]] || { echo "$key: $default" && false; }
	done < <(sed -n 's/^\t\[CONFIG_[A-Z_0-9]*\] = {"[A-Za-z]*", "\([A-Za-z]*\)",.*, "\([^"]*\)"},$/\1 \2/p' agent/config.c)
}

@test "espalierctl(8) has each command and option of --help, and no other" {
	diff <(espalierctl --help | sed -n 's/^  \([a-z][a-z-]*\) .*/\1/p' | sort -u) <(items espalierctl.8 Cm)
	for option in $(espalierctl --help | grep -oE -- '--[a-z]+' | sort -u); do
		grep -q "^[.]It.* Fl -${option#--}" docs/man/espalierctl.8
	done
}

@test "espalierd(8) has each option of --help" {
	[ "$(espalierd --help | grep -cE -- '-t |--detach|--version')" = 3 ]
	for option in t -detach -version -help; do
		grep -qE "^[.]It.* Fl $option( |\$)" docs/man/espalierd.8
	done
}

@test "the programs tell their version, one and the same" {
	version=$(sed -n 's/^#define ESPALIER_VERSION "\(.*\)"/\1/p' include/version.h)
	[ -n "$version" ]
	[ "$(espalierd --version)" = "espalierd $version" ]
	[ "$(espalierctl --version)" = "espalierctl $version" ]
	espalierd -V && espalierctl -V
}

# complete WORD...: what the last one may become.
completed()
{
	COMP_WORDS=(espalierctl "$@") COMP_CWORD=$#
	COMPREPLY=()
	_espalierctl 2>/dev/null
	printf '%s\n' "${COMPREPLY[@]}" | sort | paste -sd' '
}

@test "bash completes commands, options and arguments of espalierctl" {
	source docs/espalierctl.bash-completion
	[ "$(complete -p espalierctl)" = "complete -F _espalierctl espalierctl" ]
	[ "$(completed st)" = status ]
	[ "$(completed --j)" = --json ]
	[ "$(completed --json --socket /x mem)" = members ]
	[ "$(completed adopt a)" = all ]
	[ "$(completed status '')" = "" ]
	for command in $(items espalierctl.8 Cm); do
		[[ " $(completed '') " == *" $command "* ]]
	done
	touch "$BATS_TEST_TMPDIR/control"
	[ "$(completed --socket "$BATS_TEST_TMPDIR/con")" = "$BATS_TEST_TMPDIR/control" ]
}

@test "make install puts all in place, under DESTDIR alone" {
	plugin=
	[ ! -e build/libstrongswan-espalier.so ] ||
		plugin=$'644 etc/strongswan.d/charon/espalier.conf\n644 usr/lib/ipsec/plugins/libstrongswan-espalier.so\n'
	make -s install DESTDIR="$BATS_TEST_TMPDIR/root" PREFIX=/usr
	diff - <(cd "$BATS_TEST_TMPDIR/root" && find . -type f -printf '%m %P\n' | sort -k 2) <<-END
		${plugin}644 usr/lib/systemd/system/espalierd.service
		644 usr/lib/systemd/system/strongswan.service.d/espalierd.conf
		755 usr/sbin/espalierctl
		755 usr/sbin/espalierd
		644 usr/share/bash-completion/completions/espalierctl
		644 usr/share/doc/espalier/README.md
		644 usr/share/doc/espalier/espalier.conf.example
		644 usr/share/doc/espalier/prometheus/dashboard.json
		644 usr/share/doc/espalier/prometheus/espalier.rules.yml
		644 usr/share/doc/espalier/prometheus/prometheus.yml
		644 usr/share/man/man5/espalier.conf.5
		644 usr/share/man/man8/espalierctl.8
		644 usr/share/man/man8/espalierd.8
	END
	[ "$(stat -c %a "$BATS_TEST_TMPDIR/root/etc/espalier" "$BATS_TEST_TMPDIR/root/var/lib/espalier" | paste -sd' ')" = "700 700" ]
	"$BATS_TEST_TMPDIR/root/usr/sbin/espalierctl" --version
}
