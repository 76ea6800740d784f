"""Patroni 3.0 with two holes closed, through which a primary that had stood still or had been cut off became the leader
again and threw away what its successor had acknowledged (test/track-record.md, seeds 501 and 722):

- With etcd's version 3 protocol it renewed the leader key without looking whose it was by then. A primary that came back in
  the middle of a cycle found its lease expired, got another, and wrote its name over that of its successor.
- A node that still runs as primary was the healthiest of all when nobody held the key, also when /sync named others.

And one through which a server was away for as long as its clients stayed:

- A server whose first process gets SIGTERM takes no new connection and waits for the last of the old ones to go, which those
  of a pool never do. Patroni saw it run.

And two habits changed that made a failover seconds longer:

- Patroni asks a member of etcd that it picks at random, and stays with it. When that one's host died with the primary, a
  standby first had to find another. Here it stays with the first that it was configured with, which is on its own host.
- A standby asks the primary for its state before it takes its place, and waited 2 s for one whose host is off.

And one that wrote to etcd, and so to its disk, once a second for nothing: the position in the log, without having moved.

On zfs-fuse it also holds files of the server open, because that forgets at their last close what was not synced.

Started in place of /usr/bin/patroni.
"""

import functools
import logging
import os
import socket
import sys
import threading
import time
from urllib.parse import urlparse

from patroni.__main__ import main
from patroni.dcs import AbstractDCS
from patroni.dcs.etcd import AbstractEtcdClientWithFailover
from patroni.dcs.etcd3 import Etcd3, base64_encode
from patroni.ha import Ha, _MemberStatus
from patroni.version import __version__

logger = logging.getLogger(__name__)

# Seconds. A kernel that lives answers in a few thousandths.
reach_timeout = 0.5
# Below the data directory: the server opens a file there for each page that it writes, and again to sync it at a checkpoint.
held_directories = ('pg_xact', 'pg_multixact/members', 'pg_multixact/offsets', 'pg_commit_ts')
# The newest of each directory; all of them can be two thousand.
held_files_max = 32
# Seconds. What changed less long ago may change once more within the same tick of its clock.
settled_after = 2


def renew_own_key_only(update_leader):
    """Has the leader key written only by whom nobody succeeded; false, and with it a demotion, when somebody did."""

    one_at_a_time = threading.Lock()

    @functools.wraps(update_leader)
    def guarded(self):
        with one_at_a_time:
            return renew(self)

    def renew(self):
        client = self._client
        put = client.put
        sync = self.cluster.sync if self.cluster else None
        refused = []

        def write(fields, compare, retry):
            call = {'compare': compare, 'success': [{'request_put': fields}]}
            return client.call_rpc('/kv/txn', call, retry).get('succeeded')

        def put_if_ours(key, value, lease=None, *args, **kwargs):
            # Other threads write other keys meanwhile.
            if key != self.leader_path:
                return put(key, value, lease, *args, **kwargs)
            retry = kwargs.get('retry')
            fields = {'key': base64_encode(key), 'value': base64_encode(value), 'lease': lease}
            names_us = {'target': 'VALUE', 'key': fields['key'], 'value': fields['value']}
            written = write(fields, [names_us], retry)
            if not written and sync and sync.leader == value:
                # Gone with its lease. Whoever leads writes /sync first, so as long as that is as we left it nobody has led.
                nobody = {'target': 'CREATE', 'key': fields['key'], 'create_revision': 0}
                as_we_left = {'target': 'MOD', 'key': base64_encode(self.sync_path), 'mod_revision': sync.index}
                written = write(fields, [nobody, as_we_left], retry)
            if not written:
                refused.append(key)
            return written

        client.put = put_if_ours
        try:
            held = update_leader(self)
        finally:
            del client.put
        return held and not refused

    return guarded


def lead_as_sync_says(is_healthiest_node):
    """Lets no node lead that /sync does not name, a running primary as little as any other."""

    @functools.wraps(is_healthiest_node)
    def guarded(self):
        sync = self.cluster.sync
        bound = self.is_synchronous_mode() and not self.is_paused() and not sync.is_empty
        if bound and self.state_handler.is_leader() and not sync.matches(self.state_handler.name):
            return False
        return is_healthiest_node(self)

    return guarded


def state_of(path):
    """Another one whenever the path's content changes; None when it is not there, or cannot be told yet."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    if time.time() - stat.st_mtime < settled_after:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def end_what_is_ending(run_cycle):
    """A server that somebody else told to end is ended at once, so that it is started again like one that crashed."""
    pid_file = PidFile()

    @functools.wraps(run_cycle)
    def guarded(self):
        server = self.state_handler
        # Whoever ends it here, for a demotion or a restart, does so as a long action.
        process = None if self.is_paused() or self._async_executor.busy else server.is_running()
        if process and pid_file.is_ending(server.data_dir):
            logger.warning('the server was told to end and waits for its clients: ending it, to start it again')
            process.signal_stop('fast', server.pgcommand('pg_ctl'))
        return run_cycle(self)

    return guarded


class PidFile:
    """Read when it has changed: a volume that nobody asks for anything is left alone by its host (host/volume/tend.ts)."""

    def __init__(self):
        self.seen = None
        self.ending = False

    def is_ending(self, data_dir):
        """As its last line says."""
        path = os.path.join(data_dir, 'postmaster.pid')
        now = state_of(path)
        if now is None or now != self.seen:
            self.seen = now
            self.ending = status_line(path) == 'stopping'
        return self.ending


def status_line(path):
    try:
        with open(path) as f:
            return f.read().splitlines()[7].strip()
    except (OSError, IndexError):
        return None


class HeldFiles:
    """Descriptors that do nothing but be there (host/container/README.md, zfs-fuse)."""

    def __init__(self):
        self.held = {}
        self.seen = {}

    def look(self, data_dir):
        """Lists directories only when they have changed, for the reason of PidFile."""
        for directory in (os.path.join(data_dir, name) for name in held_directories):
            now = state_of(directory)
            if now is None or now != self.seen.get(directory):
                self.seen[directory] = now if self.hold(directory) else None

    def hold(self, directory):
        """Opens what is new, closes what is gone or another file by now; false when something could not be opened."""
        there = set(newest(directory))
        held = {path: fd for path, fd in self.held.items() if os.path.dirname(path) == directory}
        for path, fd in held.items():
            if path not in there or not is_same(path, fd):
                os.close(self.held.pop(path))
        for path in there - self.held.keys():
            try:
                self.held[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as e:
                logger.debug('%s is not held open: %s', path, e)
        return there <= self.held.keys()


def newest(directory):
    try:
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory))[-held_files_max:]]
    except OSError:
        return []


def is_same(path, fd):
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return False


@functools.cache
def is_on_zfs_fuse(path):
    with open('/proc/self/mounts') as f:
        mounts = [line.split(' ')[1:3] for line in f]
    above = [(target, kind) for target, kind in mounts if os.path.join(path, '').startswith(os.path.join(target, ''))]
    return max(above, key=lambda m: len(m[0]), default=('', ''))[1] == 'fuse.zfs'


def hold_files_open(run_cycle):
    """What a checkpoint syncs is on the disk then, though it was closed after it was written."""
    files = HeldFiles()

    @functools.wraps(run_cycle)
    def guarded(self):
        data_dir = self.state_handler.data_dir
        if is_on_zfs_fuse(data_dir):
            files.look(data_dir)
        return run_cycle(self)

    return guarded


def near_first(get_machines_list):
    """The near member is asked first, and is the first of the list of members."""

    @functools.wraps(get_machines_list)
    def ordered(self, machines_cache):
        def is_far(machine):
            return machine != near_member(self)

        return sorted(get_machines_list(self, sorted(machines_cache, key=is_far)), key=is_far)

    return ordered


def back_to_near(refresh_machines_cache):
    """Goes back to the near member, once it has been away, when the list of members is read again because of its age."""

    @functools.wraps(refresh_machines_cache)
    def refreshed(self, *args, **kwargs):
        is_old = time.time() - self._machines_cache_updated > self._machines_cache_ttl
        changed = refresh_machines_cache(self, *args, **kwargs)
        if is_old and near_member(self) in self._machines_cache:
            self.set_base_uri(near_member(self))
        return changed

    return refreshed


def near_member(client):
    return client._config['hosts'][0]


def pass_over_the_silent(fetch_node_status):
    """A node whose port takes no connection is not asked for its state."""

    @functools.wraps(fetch_node_status)
    def fetched(self, member):
        api = urlparse(member.api_url or '')
        try:
            socket.create_connection((api.hostname or '', api.port or 0), reach_timeout).close()
        except OSError as e:
            logger.warning('%s takes no connection at %s: %s', member.name, member.api_url, e)
            return _MemberStatus.unknown(member)
        return fetch_node_status(self, member)

    return fetched


def write_changes_only(write_status):
    """Without slots the status never equalled that in etcd, which Patroni remembers with a place for slots."""

    @functools.wraps(write_status)
    def guarded(self, value):
        self._last_status = {name: last for name, last in self._last_status.items() if last}
        return write_status(self, value)

    return guarded


def change_patroni():
    """Ends the program where Patroni is not the one that this was written for: later ones look for themselves."""
    if not __version__.startswith('3.0.'):
        sys.exit(f'flynn_patroni: written for Patroni 3.0, this is {__version__}: look whether it needs this still')
    Etcd3._update_leader = renew_own_key_only(Etcd3._update_leader)
    Ha.is_healthiest_node = lead_as_sync_says(Ha.is_healthiest_node)
    Ha.fetch_node_status = pass_over_the_silent(Ha.fetch_node_status)
    Ha._run_cycle = hold_files_open(end_what_is_ending(Ha._run_cycle))
    AbstractDCS.write_status = write_changes_only(AbstractDCS.write_status)
    client = AbstractEtcdClientWithFailover
    client._get_machines_list = near_first(client._get_machines_list)
    client._refresh_machines_cache = back_to_near(client._refresh_machines_cache)


change_patroni()
if __name__ == '__main__':
    sys.exit(main())
