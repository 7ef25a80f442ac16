/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The never-repeat rule for outbound sequence numbers, and proof by exhaustion that it holds (I1):
 * no number of an SA is emitted twice by the cluster, whatever is lost and whoever crashes.
 * tests/model/run checks it for two and three members, and that each MUTANT_ below breaks it.
 *
 * One SA. Its sequence space is cut into blocks of SIZE numbers; block b belongs to member b mod
 * MODULUS for ever, but block 0 to the SA's creator, which uses it without entering it. A member
 * *enters* its other blocks, upwards, each at most once, in these steps; a crash may come between
 * any two:
 *   1 the block is in this member's journal, durable
 *   2 it is announced to the other members
 *   3 the kernel's copy of the SA is moved to the block's start (XFRM_MSG_NEWAE)
 *   4 it is read back that this was a move forward, and the guard opens the block; else the block is
 *     lost and another one is entered
 * A copy is installed by the same steps, with "installed there" as the third. What the kernel refuses
 * in step 3 it has not done: the block is open nowhere, and may be tried again as it is; or left.
 *
 * The guard lets out numbers of the block entered last and of the one before, nothing else. Of an
 * SA the agent has not seen yet it lets out block 0: here it can only be new, since a copy is only
 * ever installed after the guard knows the SA, with both windows closed.
 *
 * Why the guard opens after the move: the kernel counts on by itself. While an agent sleeps between
 * the two (SIGSTOP), the count runs on through the other members' blocks (dropped) into the open
 * one, and NEWAE, which does not compare, would set it back over numbers that are out. Why it is
 * read back: a packet numbered in the block before NEWAE may still be on its way to the guard. How:
 * the SA's packet and byte counters, read with oseq before and after (XFRM_MSG_GETAE), bound how far
 * oseq can have counted in between; only if that is below the block's start was it forward.
 *
 * Any number of faults, in any order. Members share nothing here but the wire, and this is the
 * point of the rule:
 * - announcements. Which of its own blocks a member enters (the next one; or, as a standby, one a
 *   round above everything announced) depends on what it heard. Here it may enter any of its own
 *   above its journal: this covers announcements lost, late and repeated. takeover.pml has them.
 * - views. Whether a member believes to be the owner is decided anew for each packet: this covers
 *   partitions, several owners at once, and none.
 *
 * Covered by it, too: agents and members that restart without end, lost journals, installs and moves
 * that the kernel refuses, SAs that are deleted from a kernel and come back as copies.
 *
 * Assumed: what the journal says durable is durable; pinned maps live as long as the kernel does; a
 * packet does not stay between numbering and guard for as long as it takes to go through steps 1 to
 * 4 once. And what no rule for blocks can make up for: every number goes by the guard; journal and
 * machine are not set back to an older copy, nor cloned; one member makes the SA, once. Guards that
 * are away or passed by, old copies, clones, two creators and SAs made again with the same keys are
 * faults of the simulator (tests/sim/doubts.c). So is what restarts and refusals cost: no blocks are
 * counted here.
 *
 * No history is kept: one number, `watched`, is chosen at the start, any of them, and only its
 * emissions are counted.
 */
#if MEMBERS == 2
#define MODULUS 2
#else
#define MODULUS 4
#endif
#define ROUNDS 3 /* blocks of each member, its share of the first round counted */
#define SIZE 2
#define BLOCKS (MODULUS * ROUNDS)
#define NUMBERS (BLOCKS * SIZE)
#define NONE BLOCKS

#define IDLE 0
#define JOURNALED 1
#define ANNOUNCED 2
#define MOVED 3

#define START(block) ((block) * SIZE)
#define IN(block) (watched / SIZE == (block))
#define CLOSED (known && current == NONE && previous == NONE)
#define OPEN (known && (IN(current) || IN(previous)) || !known && IN(0))
#define NEXT_OWN ((journal + MODULUS - id) / MODULUS * MODULUS + id)
#define MAY_ENTER (step == IDLE && (installed && known || CLOSED) && !in_flight && named)
#define MAY_INSTALL CLOSED
#define READ_BACK forward
#define GIVEN_UP IDLE
#define JOURNAL_AFTER_AGENT journal
#define JOURNAL_AFTER_MEMBER journal

/* What must not be left out. Each of these has to make the assertion below fail. */
#ifdef MUTANT_NO_GUARD
#undef OPEN
#define OPEN true
#endif
#ifdef MUTANT_NO_OWN_BLOCKS
#undef NEXT_OWN
#define NEXT_OWN (journal + 1)
#endif
#ifdef MUTANT_NO_JOURNAL
#undef JOURNAL_AFTER_AGENT
#define JOURNAL_AFTER_AGENT (current == NONE -> 0 : current)
#undef JOURNAL_AFTER_MEMBER
#define JOURNAL_AFTER_MEMBER 0
#endif
#ifdef MUTANT_REUSE_AFTER_LOSS
#undef MAY_ENTER
#define MAY_ENTER (step == IDLE && (installed && known || CLOSED) && !in_flight)
#endif
#ifdef MUTANT_COPY_BEFORE_GUARD
#undef MAY_INSTALL
#define MAY_INSTALL true
#endif
#ifdef MUTANT_RETRY_SET_BACK
#undef GIVEN_UP
#define GIVEN_UP ANNOUNCED
#endif
#ifdef MUTANT_NO_READ_BACK
#undef READ_BACK
#define READ_BACK true
#endif

bool emitted; /* the watched number is out */

proctype member(byte id; bool creator; byte watched)
{
	/* The kernel: whether it has the SA; the number given out last (`oseq`); whether the watched
	 * number is on its way from xfrm to the guard. */
	bool installed = creator, in_flight;
	byte oseq;
	/* The guard's pinned map: whether it knows the SA; the two open blocks. */
	bool known;
	byte current = NONE, previous = NONE;
	/* The journal: the block entered last; whether the SA's record, made at its birth, names this
	 * journal. */
	byte journal;
	bool named = true;
	/* The agent: how far it is with entering block `journal`; what it read back. */
	byte step = IDLE;
	bool forward;

loop:
	do
	/* The kernel numbers a packet: the guard lets it out, or it is slow to get there, or it is lost
	 * or dropped (in a foreign block; or this member does not believe to be the owner). */
	:: d_step { installed && oseq + 1 == watched && OPEN -> oseq++ }
		goto emit
	:: d_step { installed && oseq + 1 == watched && !in_flight -> oseq++; in_flight = true }
	:: d_step { installed && oseq < NUMBERS - 1 -> oseq++ }
	/* A packet that was slow comes to the guard. */
	:: d_step { in_flight && OPEN -> in_flight = false }
		goto emit
	:: d_step { in_flight -> in_flight = false }

	/* The creator's agent sees the new SA. */
	:: d_step { installed && !known -> known = true; current = 0 }
	/* A copy is installed: first the guard knows it, with nothing open; then the kernel gets it.
	 * If a block was being entered for an earlier copy, that ends here. */
	:: d_step { !installed && !CLOSED -> known = true; current = NONE; previous = NONE }
	:: d_step { !installed && MAY_INSTALL ->
		installed = true; oseq = 0; step = IDLE; forward = false }

	/* A block is passed over: a standby keeps a round above what it heard. */
	:: d_step { MAY_ENTER && NEXT_OWN < BLOCKS -> journal = NEXT_OWN }
	/* Step 1. Only where the SA's record names the journal that this member has now. */
	:: d_step { MAY_ENTER && NEXT_OWN < BLOCKS -> journal = NEXT_OWN; step = JOURNALED }
	/* Step 2: whoever hears it. */
	:: d_step { step == JOURNALED -> step = ANNOUNCED }
#ifndef MUTANT_GUARD_BEFORE_MOVE
	/* Step 3. The kernel sets oseq; it does not compare. */
	:: d_step { step == ANNOUNCED && installed ->
		forward = (oseq < START(journal)); oseq = START(journal) - 1; step = MOVED }
	/* Step 4. */
	:: d_step { step == MOVED && READ_BACK ->
		previous = current; current = journal; step = IDLE; forward = false }
	:: d_step { step == MOVED && !READ_BACK -> step = GIVEN_UP }
	/* Step 3 of a copy: it is built there. Between the two it is shut, and counts already. */
	:: d_step { step == ANNOUNCED && !installed && CLOSED ->
		installed = true; oseq = START(journal) - 1; forward = true; step = MOVED }
	/* Step 3 is refused: nothing has changed, it is tried again. Or the block is left. */
	:: d_step { step == ANNOUNCED -> step = IDLE }
#ifdef MUTANT_REINSTALL
	/* A block that was open is taken for one that the kernel has refused. */
	:: d_step { step == IDLE && CLOSED && !installed && journal > 0 -> step = ANNOUNCED }
#endif
#else
	:: d_step { step == ANNOUNCED && installed ->
		previous = current; current = journal;
		forward = (oseq < START(journal)); step = MOVED }
	:: d_step { step == MOVED && forward ->
		oseq = START(journal) - 1; step = IDLE; forward = false }
	:: d_step { step == MOVED && !forward -> step = IDLE }
#endif

	/* The agent crashes and comes back; the kernel and the guard go on. */
	:: d_step { step != IDLE ->
		step = IDLE; forward = false; journal = JOURNAL_AFTER_AGENT }
	/* The SA is deleted from this kernel. It may come back as a copy, in another block than it was
	 * to be moved to. */
	:: d_step { installed ->
		installed = false; oseq = 0; step = (step == MOVED -> MOVED : IDLE) }
	/* The member crashes: only its journal is left. */
	:: d_step { (installed || known) ->
		installed = false; oseq = 0; in_flight = false;
		known = false; current = NONE; previous = NONE;
		step = IDLE; forward = false; journal = JOURNAL_AFTER_MEMBER }
	/* The agent starts and its journal is lost: it begins another, which no record names. */
	:: d_step { named ->
		named = false; journal = 0; step = IDLE; forward = false }
#ifdef MUTANT_NEW_RECORD
	:: d_step { !named -> named = true }
#endif
	/* The member is gone for good. */
	:: break
	od;
	goto gone;

emit:
	atomic { assert(!emitted); emitted = true };
	goto loop;

gone: /* All is forgotten, so that spin need not tell apart the ways that led here. */
	atomic {
		installed = false; in_flight = false; oseq = 0;
		known = false; current = 0; previous = 0;
		journal = 0; named = false; step = 0; forward = false; watched = 0
	}
}

init {
	byte creator, watched, id;

	atomic {
		select(creator : 0 .. MEMBERS - 1);
		select(watched : 1 .. NUMBERS - 1);
		do
		:: id < MEMBERS -> run member(id, id == creator, watched); id++
		:: else -> break
		od
	}
}
