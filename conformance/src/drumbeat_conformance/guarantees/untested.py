"""Promises that no test can cover, and why."""

from __future__ import annotations

from drumbeat_conformance.guarantee import untested

untested(
    "LIMIT-1",
    "A write that comes late, because its process was paused between reading `held` and writing, is refused by a "
    "resource that compares tokens.",
    why="The resource is the user's, and nothing can stop a thread between two chosen instructions of a program that "
    "the suite does not know. What Drumbeat adds, tokens that such a resource can compare, is tested by LOCK-4.",
)
untested(
    "LIMIT-2",
    "A virtual machine that is restored from a snapshot asks the server before it says `held` again.",
    why="It takes a hypervisor to restore one, and the suite would be restored with it. What a session notices of it, "
    "a jump of wall time against its own clock, is tested by LEAD-42.",
)
untested(
    "LIMIT-3",
    "The time in which a host is suspended counts: its terms are not held when it wakes after their deadline.",
    why="The suite would be suspended too. FAULT-4 stops processes for longer than the TTL, which a clock that does "
    "not count suspend would pass as well.",
)
untested(
    "LIMIT-4",
    "Deadlines hold while clocks of different hosts run at the same speed within 0.1 %.",
    why="All processes of a run share one clock. A clock that drifts by more is an assumption broken, not a promise.",
)
untested(
    "LIMIT-5",
    "A win on `local://` that was announced is still known after the power was lost.",
    why="Only cutting the power shows what a disk has kept: a killed process leaves the kernel's cache as it was.",
)
untested(
    "LIMIT-6",
    "Sessions of `local://` that lived before a reboot are dead after it, whatever their deadlines say.",
    why="The suite does not outlive a reboot.",
)
untested(
    "LIMIT-7",
    "A step of the wall clock of an etcd server ends no lease early.",
    why="The program of etcd asks the kernel for the time without a library in which a test could step it, and "
    "stepping the clock of the machine would disturb everything that runs there.",
)
untested(
    "LIMIT-8",
    "Tokens keep rising for as long as a store lives, up to 63 bits.",
    why="One win in each microsecond would take 290 000 years to get there.",
)
