"""Every statement. Each write is one statement that commits by itself.

A process that is frozen inside a write transaction freezes everybody, so no Python runs between a write's beginning
and its commit. That is also why no write has a RETURNING clause: its transaction stays open until Python has fetched
the row, which takes as long as another thread keeps the interpreter (tried: locked for half of the time).

Conditions stand inside the statement. `:slot`, `:incarnation`, `:boot`, `:now`, `:pid`, `:pid_space` and `:lock_file`
are given to each; a place is a group or an election with its namespace before it.
"""

# ruff: noqa: S608 - put together from constants of this module alone

from __future__ import annotations

from typing import Final

#: "DrmB", in the file's header: https://www.sqlite.org/pragma.html#pragma_application_id.
APPLICATION_ID: Final = 0x44726D42
#: The format of the tables, as the file's `user_version`.
FORMAT: Final = 1

#: A slot is the byte of the lock file that its owner keeps locked; it is never given twice.
SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE births (
    namespace TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    longest_ttl REAL NOT NULL,
    on_empty_store TEXT NOT NULL,
    boot TEXT NOT NULL,
    quiet_until REAL NOT NULL
);
CREATE TABLE sessions (
    slot INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    incarnation TEXT NOT NULL UNIQUE,
    member_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_space INTEGER NOT NULL,
    lock_file TEXT NOT NULL,
    boot TEXT NOT NULL,
    ttl REAL NOT NULL,
    deadline REAL NOT NULL,
    UNIQUE (namespace, member_id)
);
CREATE TABLE members (
    place TEXT NOT NULL,
    slot INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (place, slot)
);
CREATE INDEX members_of ON members (slot);
CREATE TABLE candidacies (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    place TEXT NOT NULL,
    slot INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    UNIQUE (slot, place, attempt)
);
CREATE INDEX candidacies_in_order ON candidacies (place, id);
CREATE TABLE seats (
    place TEXT PRIMARY KEY,
    token INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    value BLOB NOT NULL,
    holder INTEGER REFERENCES sessions ON DELETE SET NULL
);
CREATE INDEX seats_of ON seats (holder);
CREATE TABLE watches (
    subject TEXT NOT NULL,
    slot INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
    PRIMARY KEY (subject, slot)
) WITHOUT ROWID;
CREATE INDEX watches_of ON watches (slot);
CREATE TRIGGER first_win AFTER INSERT ON seats BEGIN
    DELETE FROM candidacies WHERE slot = NEW.holder AND place = NEW.place AND attempt = NEW.attempt;
END;
CREATE TRIGGER later_win AFTER UPDATE OF holder ON seats BEGIN
    DELETE FROM candidacies WHERE slot = NEW.holder AND place = NEW.place AND attempt = NEW.attempt;
END;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""

_ALIVE = "me.slot = :slot AND me.incarnation = :incarnation AND me.deadline > :now AND me.boot = :boot"
#: What `Call.dead` has to know of another session.
_PEER = "s.slot, s.incarnation, s.member_id, s.pid, s.pid_space, s.lock_file, s.boot, s.deadline"
_LISTED = "IN (SELECT value FROM json_each(:slots))"

# Sessions

BEAR: Final = """
INSERT INTO births (namespace, epoch, longest_ttl, on_empty_store, boot, quiet_until)
VALUES (:namespace, :epoch, :longest_ttl, :on_empty_store, :boot, :now + :quiet)
ON CONFLICT DO NOTHING
"""
BIRTH: Final = """
SELECT longest_ttl, on_empty_store, boot, quiet_until, (SELECT min(epoch) FROM births) AS epoch
FROM births WHERE namespace = :namespace
"""
OPEN: Final = """
INSERT INTO sessions (slot, namespace, incarnation, member_id, pid, pid_space, lock_file, boot, ttl, deadline)
SELECT :slot, :namespace, :incarnation, :member_id, :pid, :pid_space, :lock_file, :boot, :ttl, :now + :ttl
WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE namespace = :namespace AND member_id = :member_id)
"""
SAME_MEMBER: Final = f"SELECT {_PEER} FROM sessions AS s WHERE namespace = :namespace AND member_id = :member_id"
BY_INCARNATION: Final = "SELECT slot FROM sessions WHERE namespace = :namespace AND incarnation = :other"
OF_PROCESS: Final = f"SELECT {_PEER} FROM sessions AS s WHERE s.pid = :other AND s.pid_space = :pid_space"
IS_ALIVE: Final = f"SELECT 1 FROM sessions AS me WHERE {_ALIVE}"
RENEW: Final = f"UPDATE sessions AS me SET deadline = :now + ttl WHERE {_ALIVE}"
SWEEP: Final = "DELETE FROM sessions WHERE boot <> :boot OR deadline <= :now"
#: Ends sessions for good, with all that they hold. `:unlocked` are those whose kernel lock was seen to be free.
BURY: Final = f"""
DELETE FROM sessions WHERE slot {_LISTED}
AND (slot IN (SELECT value FROM json_each(:unlocked)) OR boot <> :boot OR deadline <= :now)
"""
ESTATE: Final = f"""
SELECT 'group' AS kind, place FROM members WHERE slot {_LISTED}
UNION SELECT 'election', place FROM seats WHERE holder {_LISTED}
UNION SELECT 'election', place FROM candidacies WHERE slot {_LISTED}
"""

# Holdings, as `:kept`: a JSON list of [kind, place, attempt, token]

_KEPT = "SELECT value ->> 1, value ->> 2 FROM json_each(:kept) WHERE value ->> 0"
_STRAY_MEMBER = f"slot = :slot AND attempt <= :newest AND (place, attempt) NOT IN ({_KEPT} = 'member')"
_STRAY_CANDIDACY = f"slot = :slot AND attempt <= :newest AND (place, attempt) NOT IN ({_KEPT} <> 'member')"
_STRAY_SEAT = f"holder = :slot AND attempt <= :newest AND (place, attempt) NOT IN ({_KEPT} <> 'member')"

VERIFY: Final = f"""
SELECT 'lost' AS kind, CAST(k.key AS TEXT) AS place FROM json_each(:kept) AS k
WHERE k.value ->> 0 = 'member' AND NOT EXISTS (
    SELECT 1 FROM members WHERE slot = :slot AND place = k.value ->> 1
    AND (attempt = k.value ->> 2 OR attempt > :newest))
OR k.value ->> 0 = 'seat' AND NOT EXISTS (
    SELECT 1 FROM seats WHERE holder = :slot AND place = k.value ->> 1 AND attempt = k.value ->> 2
    AND token = k.value ->> 3)
UNION ALL SELECT 'over', '' WHERE NOT EXISTS ({IS_ALIVE})
UNION ALL SELECT 'group', place FROM members WHERE {_STRAY_MEMBER}
UNION ALL SELECT 'election', place FROM candidacies WHERE {_STRAY_CANDIDACY}
UNION ALL SELECT 'election', place FROM seats WHERE {_STRAY_SEAT}
"""
CLEAR_STRAYS: Final = (
    f"DELETE FROM members WHERE {_STRAY_MEMBER}",
    f"DELETE FROM candidacies WHERE {_STRAY_CANDIDACY}",
    f"UPDATE seats SET holder = NULL WHERE {_STRAY_SEAT}",
)

# Groups

IS_MEMBER: Final = "SELECT 1 FROM members WHERE place = :place AND slot = :slot"
JOIN: Final = f"""
INSERT INTO members (place, slot, attempt, value)
SELECT :place, me.slot, :attempt, :value FROM sessions AS me WHERE {_ALIVE}
ON CONFLICT (place, slot) DO UPDATE SET attempt = excluded.attempt, value = excluded.value
"""
UPDATE_MEMBER: Final = f"""
UPDATE members SET value = :value
WHERE place = :place AND slot = (SELECT me.slot FROM sessions AS me WHERE {_ALIVE})
"""
LEAVE: Final = "DELETE FROM members WHERE place = :place AND slot = :slot"
MEMBERS: Final = f"""
SELECT {_PEER}, m.value FROM members AS m JOIN sessions AS s USING (slot)
WHERE m.place = :place AND s.deadline > :now AND s.boot = :boot
"""
MEMBERSHIPS: Final = f"""
SELECT {_PEER}, m.place FROM members AS m JOIN sessions AS s USING (slot)
WHERE s.namespace = :namespace AND s.deadline > :now AND s.boot = :boot
"""

# Elections

FRONT: Final = f"""
SELECT c.id AS candidacy, t.token, t.attempt, t.value, {_PEER}
FROM sessions AS me
LEFT JOIN candidacies AS c ON c.slot = me.slot AND c.place = :place AND c.attempt = :attempt
LEFT JOIN seats AS t ON t.place = :place
LEFT JOIN sessions AS s ON s.slot = t.holder
WHERE {_ALIVE}
"""
APPLY: Final = f"""
INSERT INTO candidacies (place, slot, attempt) SELECT :place, me.slot, :attempt FROM sessions AS me WHERE {_ALIVE}
ON CONFLICT DO NOTHING
"""
OLDEST: Final = f"""
SELECT c.attempt, {_PEER} FROM candidacies AS c JOIN sessions AS s USING (slot)
WHERE c.place = :place ORDER BY c.id LIMIT 1
"""
WIN: Final = f"""
INSERT INTO seats (place, token, attempt, value, holder)
SELECT c.place, :token, c.attempt, :value, me.slot FROM candidacies AS c JOIN sessions AS me USING (slot)
WHERE c.place = :place AND c.attempt = :attempt AND {_ALIVE}
AND NOT EXISTS (SELECT 1 FROM candidacies AS older WHERE older.place = c.place AND older.id < c.id)
ON CONFLICT (place) DO UPDATE
SET token = excluded.token, attempt = excluded.attempt, value = excluded.value, holder = excluded.holder
WHERE token < excluded.token AND NOT EXISTS (SELECT 1 FROM sessions WHERE slot = seats.holder)
"""
WITHDRAW: Final = "DELETE FROM candidacies WHERE place = :place AND slot = :slot AND attempt = :attempt"
GIVE_UP: Final = "UPDATE seats SET holder = NULL WHERE place = :place AND holder = :slot AND attempt = :attempt"
RESIGN: Final = f"{GIVE_UP} AND token = :token"
PROCLAIM: Final = f"""
UPDATE seats SET value = :value WHERE place = :place AND attempt = :attempt AND token = :token
AND holder = (SELECT me.slot FROM sessions AS me WHERE {_ALIVE})
"""
LEADER: Final = f"""
SELECT t.token, t.value, {_PEER} FROM seats AS t JOIN sessions AS s ON s.slot = t.holder WHERE t.place = :place
"""

# Wake-up

WATCH: Final = f"""
INSERT INTO watches (subject, slot) SELECT :subject, me.slot FROM sessions AS me WHERE {_ALIVE} ON CONFLICT DO NOTHING
"""
UNWATCH: Final = "DELETE FROM watches WHERE slot = :slot AND subject = :subject"
WATCHERS: Final = """
SELECT s.incarnation, w.subject FROM watches AS w JOIN sessions AS s USING (slot)
WHERE w.subject IN (SELECT value FROM json_each(:subjects))
"""
#: The first few, because a dead one is passed over.
NEXT_CANDIDATES: Final = """
SELECT s.incarnation, t.holder IS NULL AS vacant FROM candidacies AS c JOIN sessions AS s USING (slot)
LEFT JOIN seats AS t ON t.place = c.place WHERE c.place = :place ORDER BY c.id LIMIT 8
"""
#: The holder and the candidate just ahead.
AHEAD: Final = f"""
SELECT {_PEER} FROM seats AS t JOIN sessions AS s ON s.slot = t.holder WHERE t.place = :place
UNION ALL SELECT * FROM (
    SELECT {_PEER} FROM candidacies AS c JOIN sessions AS s USING (slot) WHERE c.place = :place
    AND c.id < (SELECT id FROM candidacies WHERE slot = :slot AND place = :place AND attempt = :attempt)
    ORDER BY c.id DESC LIMIT 1)
"""
#: The next two of other processes in a ring, so that everybody is watched by somebody.
NEIGHBOURS: Final = f"""
SELECT {_PEER} FROM members AS m JOIN sessions AS s USING (slot)
WHERE m.place = :place AND s.pid_space = :pid_space AND s.pid <> :pid
ORDER BY s.incarnation <= :incarnation, s.incarnation LIMIT 2
"""

# For operators

SEATS: Final = "SELECT count(*) AS seats FROM seats"
EVERYBODY: Final = f"SELECT {_PEER} FROM sessions AS s"
