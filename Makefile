# SPDX-License-Identifier: BSD-2-Clause
#
#   make            espalierd, espalierctl and the BPF programs, in build/
#   make charon     the plugin for strongSwan's charon; its headers are fetched
#   make demo       a cluster with real ESP, a member killed (README)
#   make test       all tests and linters; make unit sim sanitize fuzz model load bpf netns vm debian13: one kind
#   make fuzz       each fuzz target for about a minute, or FUZZ_SECONDS
#   make check      formatters and linters
#   make install    DESTDIR= PREFIX=/usr
#
# V=1 shows the commands. SANITIZE=1 builds with ASan and UBSan (in build/sanitize). WERROR=1 takes
# warnings for errors: for development.

PREFIX ?= /usr
CC ?= gcc
OBJCOPY ?= objcopy
CLANG ?= clang
NEWER_CLANG ?= clang-22
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
V ?= 0
ifeq ($(V),0)
  Q := @
  say = @printf '  %-6s %s\n' $(1) $(2)
  MAKEFLAGS += --no-print-directory
else
  say = @:
endif

ROOT := build
B := $(ROOT)$(if $(SANITIZE),/sanitize)
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# Debian's flags. scripts/check-hardening looks whether the programs have what they give.
HARDENING := -fstack-protector-strong -fstack-clash-protection -Wp,-D_FORTIFY_SOURCE=2 \
	$(shell $(CC) -fcf-protection -E -x c /dev/null >/dev/null 2>&1 && echo -fcf-protection)
WARNINGS_FAIL := $(if $(filter-out 0,$(WERROR)),-Werror)
WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat-security \
	$(WARNINGS_FAIL)
PACKAGES := libmnl openssl libxdp libbpf json-c inih libmicrohttpd
CPPFLAGS += -D_GNU_SOURCE -Iinclude -Iagent -I$(ROOT)/bpf $(shell pkg-config --cflags $(PACKAGES))
CFLAGS ?= -O2 -g
CFLAGS += -std=gnu11 -fPIE -pthread $(WARNINGS) $(if $(SANITIZE),$(SANITIZERS),$(HARDENING))
LDFLAGS += -pie -Wl,-z,relro,-z,now -Wl,--as-needed
# GnuTLS looks for this (agent/io/http.c)
LDFLAGS += -Wl,--export-dynamic-symbol=_gnutls_global_init_skip
# libxdp is linked statically: its dispatcher is replaced by ours
LDLIBS += $(subst -lxdp,-l:libxdp.a,$(shell pkg-config --libs $(PACKAGES))) -pthread
BPF_CFLAGS := -O2 -g -target bpf -mcpu=v3 -D__bpf__ -Wall -Wextra $(WARNINGS_FAIL) -Iinclude -Ibpf \
	-I/usr/include/$(shell $(CC) -dumpmachine)

objects = $(patsubst %.c,$(B)/obj/%.o,$(1))
CORE := $(call objects,$(wildcard agent/core/*.c))
IO := $(call objects,$(wildcard agent/io/*.c))
AGENT := $(call objects,$(filter-out agent/config% agent/espalierctl.c,$(wildcard agent/*.c)))
DISPATCHER := $(ROOT)/bpf/xdp-dispatcher.embed.o
LIBRARY := $(CORE) $(IO) $(call objects,$(wildcard agent/config*.c)) $(DISPATCHER)
PROGRAMS := $(B)/espalierd $(B)/espalierctl
UNIT := $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
BPF_TESTS := $(patsubst tests/bpf/%.c,$(B)/tests/%,$(wildcard tests/bpf/test_*.c))
LINKED_TOOLS := $(patsubst tests/%.c,$(B)/tests/%,$(filter-out %.bpf.c,$(wildcard tests/netns/*.c tests/vm/*.c \
	tests/load/*.c tests/bench/*.c)))
REPLICATION := $(B)/tests/bench/replication
TOOLS := $(patsubst tests/tools/%.c,$(B)/tests/%,$(wildcard tests/tools/*.c))
LACK := $(B)/tests/lack.so
TEST_BPF := $(patsubst tests/lib/%.bpf.c,$(ROOT)/tests/%.bpf.o,$(wildcard tests/lib/*.bpf.c))

all: $(PROGRAMS)
tests: all $(UNIT) $(BPF_TESTS) $(B)/tests/sim $(TOOLS) $(LINKED_TOOLS) $(REPLICATION) $(LACK) $(TEST_BPF)

$(B)/espalierd: $(AGENT) $(LIBRARY)
$(B)/espalierctl: $(B)/obj/agent/espalierctl.o
$(PROGRAMS):
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/obj/%.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# An object waits for the skeletons that its source names.
$(foreach use,$(subst ",,$(shell grep -ro --include='*.c' '"[^"]*[.]skel[.]h"' agent tests)),$(eval \
	$(call objects,$(word 1,$(subst :, ,$(use)))): | $(ROOT)/bpf/$(word 2,$(subst :, ,$(use)))))

vpath %.bpf.c bpf tests/bpf tests/bench
$(ROOT)/bpf/%.bpf.o: %.bpf.c $(wildcard bpf/*.h tests/bench/*.h) include/espalier.h
	$(call say,BPF,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c -o $@ $<
	$(Q)llvm-strip -g $@

$(ROOT)/bpf/%.skel.h: $(ROOT)/bpf/%.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@.tmp && mv $@.tmp $@

# The linker makes the symbols that libxdp looks for out of the file's name.
$(DISPATCHER): bpf/dispatcher.c
	$(call say,BPF,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c -o $(@D)/xdp-dispatcher.o $<
	$(Q)llvm-strip -g $(@D)/xdp-dispatcher.o
	$(Q)cd $(@D) && $(LD) -r -b binary -z noexecstack -o $(@F) xdp-dispatcher.o
	$(Q)$(OBJCOPY) --set-section-alignment .data=8 \
		--rename-section .data=.rodata,alloc,load,readonly,data,contents $@

$(ROOT)/tests/%.bpf.o: tests/lib/%.bpf.c
	$(call say,BPF,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c -o $@ $<

# The programs once more, by a newer compiler: the verifier must take those too.
NEWER := $(patsubst bpf/%.c,$(ROOT)/load/$(NEWER_CLANG)/%.o,$(wildcard bpf/*.bpf.c))
$(NEWER): $(ROOT)/load/$(NEWER_CLANG)/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) include/espalier.h
	$(call say,BPF,$@)
	@mkdir -p $(@D)
	$(Q)$(NEWER_CLANG) $(BPF_CFLAGS) -c -o $@ $<
	$(Q)llvm-strip -g $@

$(patsubst tests/bpf/%.c,$(ROOT)/bpf/%.o,$(wildcard tests/bpf/hostile*.bpf.c)): \
	bpf/steer.bpf.c bpf/clear.bpf.c tests/bpf/hostile.bpf.c $(wildcard tests/bpf/hostile*.h)

$(UNIT): $(B)/tests/%: $(B)/obj/tests/unit/%.o $(LIBRARY)
$(B)/tests/test_charon_record: $(B)/obj/agent/charon/record.o
$(B)/tests/test_control: $(B)/obj/agent/control.o
$(B)/tests/test_forward: $(B)/obj/agent/forward.o
$(B)/tests/test_forward: LDFLAGS += -Wl,--wrap=link_has_on_lo,--wrap=link_forwards
$(B)/tests/test_strangers: $(B)/obj/agent/strangers.o
$(B)/tests/test_strangers: LDFLAGS += $(foreach f,beacon_open beacon_send beacon_hear member_other \
	member_claim member_claims member_held_back,-Wl,--wrap=$f)
$(B)/tests/test_local: $(B)/obj/agent/local.o $(B)/obj/agent/local_policy.o
$(B)/tests/test_boot: $(B)/obj/agent/boot.o
$(B)/tests/test_happened: $(B)/obj/agent/happened.o
$(B)/tests/test_happened: LDFLAGS += -Wl,--wrap=member_counters,--wrap=member_fenced_for
$(B)/tests/test_metrics: $(call objects,agent/metrics.c agent/exposition.c)
$(B)/tests/test_ops: $(B)/obj/agent/ops.o $(call objects,agent/agent.c agent/order.c agent/ike.c agent/metrics_times.c agent/happened.c)
$(B)/tests/test_ops: LDFLAGS += $(foreach f,sa_set sa_get sa_delete pin_set pin_delete counters view \
	publish,-Wl,--wrap=datapath_$f)
$(B)/tests/test_order: $(B)/obj/agent/order.o $(B)/obj/agent/control_order.o
$(B)/tests/test_order: LDFLAGS += $(foreach f,order fail_over other flags doubles view,\
	-Wl,--wrap=member_$f)
$(B)/tests/test_positions: $(B)/obj/agent/positions.o
$(B)/tests/test_positions: LDFLAGS += $(foreach f,member_table member_position member_counter \
	xfrm_counters datapath_counters,-Wl,--wrap=$f)
$(B)/tests/test_limits: $(B)/obj/agent/usage.o
$(B)/tests/test_limits: LDFLAGS += -Wl,--wrap=member_table,--wrap=member_used,--wrap=xfrm_used
$(B)/tests/test_audit: $(B)/obj/agent/audit.o $(B)/obj/agent/events_kernel.o
$(B)/tests/test_audit: LDFLAGS += $(foreach f,xfrm_dump_begin xfrm_dump_step xfrm_dump_error xfrm_read \
	xfrm_tell xfrm_count xfrm_process xfrm_fd datapath_counters,-Wl,--wrap=$f)
$(B)/tests/test_xfrm_moves: LDFLAGS += -Wl,--wrap=mnl_socket_sendto,--wrap=mnl_socket_recvfrom \
	-Wl,--wrap=recv
$(B)/tests/test_boot: LDFLAGS += -Wl,--wrap=datapath_is_first
$(B)/tests/test_local: LDFLAGS += -Wl,--wrap=datapath_sa_set,--wrap=datapath_sa_get \
	-Wl,--wrap=datapath_sa_delete,--wrap=member_table,--wrap=member_remembers
$(BPF_TESTS): $(B)/tests/%: $(B)/obj/tests/bpf/%.o $(LIBRARY)
$(LINKED_TOOLS): $(B)/tests/%: $(B)/obj/tests/%.o $(LIBRARY)
$(REPLICATION): $(call objects,$(wildcard tests/bench/replication/*.c) agent/agent.c agent/audit.c \
	agent/events_kernel.c agent/local.c agent/local_policy.c) $(LIBRARY)
$(REPLICATION): LDFLAGS += -Wl,--wrap=recv,--wrap=xfrm_count,--wrap=datapath_counters
$(UNIT) $(BPF_TESTS) $(LINKED_TOOLS) $(REPLICATION):
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

# The simulator sees the core and nothing else. It is optimized as a whole: its worlds are many.
SIM := $(patsubst %.c,$(B)/sim/%.o,$(wildcard tests/sim/*.c agent/core/*.c))
SIM_CFLAGS := $(CFLAGS) $(if $(SANITIZE),,-flto=auto)
$(SIM): $(B)/sim/%.o: %.c
	$(call say,CC,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(SIM_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/tests/sim: $(SIM)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SIM_CFLAGS) $(LDFLAGS) -o $@ $^

$(TOOLS): $(B)/tests/%: $(B)/obj/tests/tools/%.o
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^

$(LACK): tests/lib/lack.c
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fPIE,$(CFLAGS)) -fPIC -shared -o $@ $<

# What takes bytes from outside, and the fuzz targets: built by clang, with its fuzzer and sanitizers.
FUZZED := $(wildcard agent/core/*.c agent/config*.c) agent/charon/record.c agent/io/digest.c agent/io/dtls.c \
	agent/io/dtls_context.c agent/io/interface.c agent/io/plugin.c agent/io/xfrm_body.c agent/io/xfrm_facts.c \
	agent/io/xfrm_text.c tests/fuzz/fuzz.c
FUZZ := $(patsubst tests/fuzz/%.c,$(ROOT)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_CFLAGS := -O2 -g -std=gnu11 $(WARNINGS) -Wno-gnu-variable-sized-type-not-at-end $(SANITIZERS)

$(ROOT)/fuzz/obj/%.o: %.c
	$(call say,FUZZ,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(FUZZ): $(ROOT)/fuzz/%: $(ROOT)/fuzz/obj/tests/fuzz/%.o $(FUZZED:%.c=$(ROOT)/fuzz/obj/%.o)
	$(call say,LINK,$@)
	$(Q)$(CLANG) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ $(LDLIBS)

# The plugin for strongSwan's charon. It is linked with nothing: charon has loaded what it calls.
CHARON := $(patsubst agent/charon/%.c,$(B)/charon/%.o,$(wildcard agent/charon/*.c))
CHARON_FLAGS = $(shell cat $(B)/charon/flags)
$(CHARON): $(B)/charon/%.o: agent/charon/%.c $(B)/charon/flags
	$(call say,CC,$<)
	$(Q)$(CC) -Iinclude -Iagent $(CHARON_FLAGS) $(filter-out -fPIE,$(CFLAGS)) -Wno-unused-parameter -fPIC \
		-fvisibility=hidden -MMD -MP -c -o $@ $<

$(B)/libstrongswan-espalier.so: $(CHARON)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(filter-out -pie,$(LDFLAGS)) -shared -o $@ $^

charon:
	@mkdir -p $(B)/charon
	$(Q)if scripts/charon-headers >$(B)/charon/flags.new; then \
		cmp -s $(B)/charon/flags.new $(B)/charon/flags || mv $(B)/charon/flags.new $(B)/charon/flags; \
		$(MAKE) $(B)/libstrongswan-espalier.so; \
	else echo "charon: the plugin is not built: strongSwan's headers cannot be had"; fi

SEEDS ?= 2000
sim: $(B)/tests/sim
	$(Q)$(if $(SEED),$< --seeds 1 --seed $(SEED) --verbose,tests/sim/run $(SEEDS) $<)

test: tests
	$(Q)tests/run
unit sanitize fuzz load bpf netns vm model bench debian13: tests
	$(Q)tests/run $@
load-objects: $(NEWER)
fuzz-targets: $(FUZZ) $(B)/tests/test_config $(B)/tests/test_config_system
demo: tests
	$(Q)tests/demo/demo

check: tests
	$(Q)CPPFLAGS='$(CPPFLAGS)' scripts/check

install: all
	install -D -m 755 $(B)/espalierd $(DESTDIR)$(PREFIX)/sbin/espalierd
	install -D -m 755 $(B)/espalierctl $(DESTDIR)$(PREFIX)/sbin/espalierctl
	install -D -m 644 docs/espalier.conf.example $(DESTDIR)$(PREFIX)/share/doc/espalier/espalier.conf.example
	install -D -m 644 README.md $(DESTDIR)$(PREFIX)/share/doc/espalier/README.md
	install -D -m 644 docs/espalierctl.bash-completion \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/espalierctl
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man5 docs/man/*.5
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/man/*.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/espalier/prometheus deploy/prometheus/prometheus.yml \
		deploy/prometheus/espalier.rules.yml deploy/prometheus/dashboard.json
	install -D -m 644 scripts/espalierd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/espalierd.service
	install -D -m 644 scripts/strongswan-after-espalierd.conf \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/strongswan.service.d/espalierd.conf
	install -d -m 700 $(DESTDIR)/etc/espalier $(DESTDIR)/var/lib/espalier
	if [ -f $(B)/libstrongswan-espalier.so ]; then \
		install -D -m 644 $(B)/libstrongswan-espalier.so $(DESTDIR)/usr/lib/ipsec/plugins/libstrongswan-espalier.so && \
		install -D -m 644 docs/espalier-charon.conf $(DESTDIR)/etc/strongswan.d/charon/espalier.conf; fi

clean:
	rm -rf $(ROOT)

.SECONDARY:
.PHONY: all charon tests test unit sim sanitize fuzz fuzz-targets load load-objects model bpf netns vm bench debian13 demo check install clean
-include $(shell find $(ROOT) -name '*.d' 2>/dev/null)
