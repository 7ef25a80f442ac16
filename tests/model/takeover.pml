/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The other half of the rule in blocks.pml: which block to enter, so that a takeover works (I2).
 *
 * The owner enters its next own block. A standby keeps a reserve: the smallest of its own blocks
 * that is more than a round (MODULUS blocks) above the highest block it has heard an owner
 * announce. It is entered like any other block, so at a takeover there is nothing left to do.
 *
 * Property: the owner dies, at any moment, and a standby whose reserve reckons with all of the
 * owner's announcements but at most one (lost, late, or not acted upon yet) takes over. Then the
 * first number it emits is above all emitted before, so that the peer's window accepts it.
 *
 * Announcements come late, out of order, repeatedly, or never. One fault at a time: the owner's
 * agent does not crash or oversleep, and nobody loses a journal (blocks.pml has all that).
 */
#if MEMBERS == 2
#define MODULUS 2
#define ROUNDS 5
#else
#define MODULUS 4
#define ROUNDS 3 /* 4: 45 s */
#endif
#define SIZE 2
#define BLOCKS (MODULUS * ROUNDS)
#define NONE BLOCKS
#define NOBODY MEMBERS

#define IDLE 0
#define JOURNALED 1
#define ANNOUNCED 2
#define MOVED 3

/* The smallest own block above `block`. */
#define OWN_ABOVE(block) (((block) + MODULUS - id) / MODULUS * MODULUS + id)
#ifdef MUTANT_NO_ROUND
#define RESERVE_ABOVE heard
#else
#define RESERVE_ABOVE (heard + MODULUS)
#endif

byte owner;
bool taken_over;
byte highest; /* number emitted so far */
byte announced[ROUNDS + 1]; /* the owner's announcements in their order; [0]: block 0 */
byte last; /* index of the newest one */

proctype member(byte id)
{
	byte oseq, current = NONE, journal, step = IDLE;
	byte newest; /* index of the newest announcement heard */
	byte heard; /* the block it announced */
	byte reckoned; /* index of the newest announcement that the open reserve reckons with */
	byte entering; /* `newest` when the reserve being entered was chosen */

	if
	:: id == owner -> current = 0
	:: else
	fi;

end:
	do
	/* The owner's kernel. After a takeover one packet is enough. */
	:: atomic { owner == id && !taken_over && (oseq + 1) / SIZE == current ->
		oseq++; highest = oseq }
	:: atomic { owner == id && taken_over && (oseq + 1) / SIZE == current ->
		assert(oseq + 1 > highest); owner = NOBODY }

	/* The owner enters its next block. */
	:: atomic { owner == id && !taken_over && step == IDLE && last < ROUNDS &&
		OWN_ABOVE(journal) < BLOCKS -> journal = OWN_ABOVE(journal); step = JOURNALED }
#ifdef MUTANT_ANNOUNCED_LATE
	:: atomic { owner == id && step == JOURNALED ->
		oseq = journal * SIZE - 1; current = journal; step = MOVED }
	:: atomic { owner == id && step == MOVED ->
		last++; announced[last] = journal; step = IDLE }
#else
	:: atomic { owner == id && step == JOURNALED ->
		last++; announced[last] = journal; step = ANNOUNCED }
	:: atomic { owner == id && step == ANNOUNCED -> oseq = journal * SIZE - 1; step = MOVED }
	:: atomic { owner == id && step == MOVED -> current = journal; step = IDLE }
#endif

	/* A standby hears one of the announcements; old ones change nothing. */
	:: atomic { owner != id && newest < last ->
		newest++;
		do
		:: newest < last -> newest++
		:: break
		od;
		heard = announced[newest] }
	/* Its reserve reckons with it already, or it enters another one. Its own announcement is
	 * not an owner's: it moves nobody's reserve. */
	:: atomic { owner != id && step == IDLE && current != NONE && current > RESERVE_ABOVE &&
		reckoned != newest -> reckoned = newest }
	:: atomic { owner != id && step == IDLE && (current == NONE || current <= RESERVE_ABOVE) &&
		OWN_ABOVE(RESERVE_ABOVE) < BLOCKS ->
		journal = OWN_ABOVE(RESERVE_ABOVE); entering = newest; step = JOURNALED }
	:: atomic { owner != id && step == JOURNALED -> step = ANNOUNCED }
	:: atomic { owner != id && step == ANNOUNCED -> oseq = journal * SIZE - 1; step = MOVED }
	:: atomic { owner != id && step == MOVED ->
		current = journal; reckoned = entering; step = IDLE }

	/* The owner dies: this member takes over. */
	:: atomic { owner != id && owner != NOBODY && !taken_over && current != NONE &&
		last - reckoned <= 1 -> owner = id; taken_over = true }
	:: owner == NOBODY -> break
	od
}

init {
	byte id;

	atomic {
		select(owner : 0 .. MEMBERS - 1);
		do
		:: id < MEMBERS -> run member(id); id++
		:: else -> break
		od
	}
}
