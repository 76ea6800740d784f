// What flynn_patroni.py changes in Patroni, with Patroni's own classes on a real etcd.
import assert from 'node:assert/strict'
import { dirname } from 'node:path'
import { after, before, test } from 'node:test'
import { run } from '../../pkg/proc/run.ts'
import { loopbackNet, startEtcd, type TestEtcd } from '../fixtures/etcd.ts'
import { patroniProgram } from '../fixtures/patroni.ts'

let etcd: TestEtcd

before(async () => {
  etcd = await startEtcd({ members: 3, net: loopbackNet(91) })
})

after(() => etcd?.stop())

/** What the script prints; flynn_patroni has been imported for it. */
async function python(script: string, ...args: readonly string[]): Promise<string> {
  const whole = `
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import flynn_patroni
${script}`
  const argv = ['/usr/bin/python3', '-c', whole, dirname(patroniProgram), ...args] as const
  return (await run(argv, { timeoutMs: 60_000 })).stdout
}

test('a leader whose lease ran out does not write over the key of its successor', async () => {
  // Two nodes of a scope of their own, as Patroni's own classes: `old` comes back with the view that it had.
  const script = `
from patroni.dcs import get_dcs
from patroni.dcs.etcd3 import Etcd3

def node(name):
    common = {'scope': 'guarded', 'namespace': '/test/', 'name': name, 'ttl': 10, 'loop_wait': 1, 'retry_timeout': 4}
    dcs = get_dcs({**common, 'etcd3': {'hosts': sys.argv[2]}})
    dcs.touch_member({'conn_url': 'postgres://127.0.0.1:5432/postgres', 'api_url': 'http://127.0.0.1:8008/patroni'})
    return dcs

def leader(dcs):
    return dcs.get_cluster().leader.name

def run_out(dcs):
    dcs._client.call_rpc('/lease/revoke', {'ID': dcs._lease})

old, new = node('old'), node('new')
assert old.attempt_to_acquire_leader()
assert leader(old) == 'old'
assert old.update_leader(None)

# Nobody can tell that nobody led meanwhile.
run_out(old)
assert not old.update_leader(None)
# /sync can: it is as it was.
assert old.attempt_to_acquire_leader()
old.write_sync_state('old', None)
assert leader(old) == 'old'
run_out(old)
assert old.update_leader(None)
assert leader(old) == 'old'

run_out(old)
assert new.attempt_to_acquire_leader()
new.write_sync_state('new', None, index=old.cluster.sync.index)
print(leader(new))
for _ in range(3):
    assert not old.update_leader(None)
print(leader(new))
assert new.update_leader(None)
# The successor has lost its key too, but not its place.
run_out(new)
assert not old.update_leader(None)
assert new.update_leader(None)
print(leader(new))
`
  assert.equal(await python(script, etcd.endpoints.join()), 'new\nnew\nnew\n')
})

test('the status is written when it has changed, with slots and without', async () => {
  const script = `
from patroni.dcs import get_dcs

common = {'scope': 'status', 'namespace': '/test/', 'name': 'n', 'ttl': 10, 'loop_wait': 1, 'retry_timeout': 4}
dcs = get_dcs({**common, 'etcd3': {'hosts': sys.argv[2]}})
dcs.touch_member({'conn_url': 'postgres://127.0.0.1:5432/postgres', 'api_url': 'http://127.0.0.1:8008/patroni'})
assert dcs.attempt_to_acquire_leader()

def versions_of_status():
    kvs = dcs._client.range(dcs.status_path)
    return int(kvs['kvs'][0]['version']) if kvs.get('kvs') else 0

for lsn, slots in (7, None), (7, None), (8, None), (8, {'a': 5}), (8, {'a': 5}), (8, {'a': 6}), (8, None), (8, None):
    dcs.get_cluster()
    assert dcs.update_leader(lsn, slots)
    print(versions_of_status())
`
  const printed = await python(script, etcd.endpoints.join())
  assert.deepEqual(printed.trim().split('\n').map(Number), [1, 1, 2, 3, 3, 4, 5, 5])
})

test('a running primary takes a free leader key only where /sync names it', async () => {
  const script = `
from types import SimpleNamespace as Fake
from patroni.dcs import SyncState
from patroni.ha import Ha

def may_lead(sync, paused=False):
    server = Fake(name='old', sysid='1', is_starting=lambda: False, is_leader=lambda: True)
    cluster = Fake(sync=SyncState.from_node(1, sync), failover=None, initialize='1')
    ha = Fake(state_handler=server, cluster=cluster, dcs=Fake(ttl=10), patroni=Fake(nofailover=False))
    ha._released_leader_key_timestamp = 0
    ha.is_paused = lambda: paused
    ha.is_synchronous_mode = lambda: True
    return Ha.is_healthiest_node(ha)

print(may_lead({'leader': 'new', 'sync_standby': None}), may_lead({'leader': 'new', 'sync_standby': 'third'}))
print(may_lead({'leader': 'old', 'sync_standby': 'new'}), may_lead({'leader': 'new', 'sync_standby': 'old'}))
print(may_lead(None), may_lead({'leader': 'new', 'sync_standby': None}, paused=True))
`
  assert.equal(await python(script), 'False False\nTrue True\nTrue True\n')
})

test('files that a checkpoint syncs are held open for as long as they are there', async () => {
  const script = `
import os
import tempfile
from flynn_patroni import HeldFiles, is_on_zfs_fuse

def write(name):
    with open(os.path.join(data, 'pg_xact', name), 'w') as f:
        f.write(name)

with tempfile.TemporaryDirectory() as data:
    files = HeldFiles()
    files.look(data)
    print(len(files.held), is_on_zfs_fuse(data))
    os.mkdir(os.path.join(data, 'pg_xact'))
    for n in range(40):
        write('%04X' % n)
    files.look(data)
    before = dict(files.held)
    files.look(data)
    print(len(before), files.held == before, min(os.path.basename(p) for p in before))
    os.rename(os.path.join(data, 'pg_xact'), os.path.join(data, 'old'))
    os.mkdir(os.path.join(data, 'pg_xact'))
    write('0027')
    files.look(data)
    print([os.path.basename(p) for p in files.held], [open('/proc/self/fd/%d' % fd).read() for fd in files.held.values()])
`
  assert.equal(await python(script), "0 False\n32 True 0008\n['0027'] ['0027']\n")
})

test('nothing is read again that has not changed, and every change is seen', async () => {
  const script = `
import os
import tempfile
import time
from flynn_patroni import HeldFiles, PidFile

reads = []
for name in 'newest', 'status_line':
    def counted(path, read=getattr(flynn_patroni, name)):
        reads.append(os.path.basename(path))
        return read(path)
    setattr(flynn_patroni, name, counted)

def grow_old(path):
    os.utime(path, (time.time() - 60, time.time() - 60))

def write(path, text):
    with open(path, 'w') as f:
        f.write(text)

def look(times):
    reads.clear()
    for _ in range(times):
        files.look(data)
        ending = pid_file.is_ending(data)
    print(reads, ending, sorted(os.path.basename(p) for p in files.held))

with tempfile.TemporaryDirectory() as data:
    files, pid_file = HeldFiles(), PidFile()
    directory, path = os.path.join(data, 'pg_commit_ts'), os.path.join(data, 'postmaster.pid')
    flynn_patroni.held_directories = ('pg_commit_ts',)
    os.mkdir(directory)
    write(path, '1\\n2\\n3\\n4\\n5\\n6\\n7\\nready   \\n')
    # Young: it may change once more within a tick of its clock.
    look(2)
    for p in directory, path:
        grow_old(p)
    look(3)
    write(os.path.join(directory, '0000'), '')
    write(path, '1\\n2\\n3\\n4\\n5\\n6\\n7\\nstopping\\n')
    look(1)
    for p in directory, path:
        grow_old(p)
    look(3)
    os.unlink(path)
    os.rename(directory, directory + '.old')
    look(1)
`
  const both = "'pg_commit_ts', 'postmaster.pid'"
  assert.deepEqual((await python(script)).trim().split('\n'), [
    `[${both}, ${both}] False []`,
    `[${both}] False []`,
    `[${both}] True ['0000']`,
    `[${both}] True ['0000']`,
    `[${both}] False []`,
  ])
})

test('the near member of etcd is asked while it answers, and again some time after it came back', async () => {
  const script = `
import os
import signal
from patroni.dcs import get_dcs

near, near_pid = sys.argv[3], int(sys.argv[4])
common = {'scope': 'near', 'namespace': '/test/', 'name': 'n', 'ttl': 10, 'loop_wait': 1, 'retry_timeout': 4}
hosts = sys.argv[2].split(',')

def asked(dcs):
    dcs.touch_member({'conn_url': 'postgres://127.0.0.1:5432/postgres', 'api_url': 'http://127.0.0.1:8008/patroni'})
    return 'near' if dcs._client._base_uri == f'http://{near}' else 'far'

def members_grown_old(dcs):
    dcs._client._machines_cache_updated = 0

for _ in range(5):
    dcs = get_dcs({**common, 'etcd3': {'hosts': [near, *(h for h in hosts if h != near)]}})
    print(asked(dcs))
os.kill(near_pid, signal.SIGSTOP)
print(asked(dcs))
members_grown_old(dcs)
print(asked(dcs))
os.kill(near_pid, signal.SIGCONT)
print(asked(dcs))
members_grown_old(dcs)
print(asked(dcs))
`
  const near = etcd.members[1]
  assert.ok(near)
  const printed = await python(script, etcd.endpoints.join(), near.endpoint, String(near.pid()))
  assert.deepEqual(printed.split('\n'), [...Array(5).fill('near'), 'far', 'far', 'far', 'near', ''])
})

test('a node whose port takes no connection is passed over, any other is asked', async () => {
  const script = `
import json
import socket
from types import SimpleNamespace as Fake
from patroni.ha import Ha

asked = []

def request(member, **kwargs):
    asked.append(member.name)
    return Fake(data=json.dumps({'xlog': {'received_location': 7}}).encode())

def reachable(name, port):
    member = Fake(name=name, api_url=f'http://127.0.0.1:{port}/patroni' if port else None)
    return Ha.fetch_node_status(Fake(patroni=Fake(request=request)), member).reachable

def listener():
    server = socket.socket()
    server.bind(('127.0.0.1', 0))
    server.listen(0)
    return server

# A queue of connections that is full drops the next, as a host without power does.
silent, living, gone = listener(), listener(), listener()
waiting = [socket.create_connection(silent.getsockname())]
refused = gone.getsockname()[1]
gone.close()
print(reachable('silent', silent.getsockname()[1]), reachable('refused', refused), reachable('nameless', None))
print(reachable('living', living.getsockname()[1]), asked)
`
  assert.equal(await python(script), "False False False\nTrue ['living']\n")
})
