// The table of layers and images: what each component puts into its image and how its processes start.
// A component that needs another file, package or process type adds it here; docs/wiring.md names the images.
import { nodeLauncher } from '../pkg/node/launcher.ts'
import type { BundleSpec, FileSpec, ImageSpec, LayerSpec } from './types.ts'

/** Starts node with the flags that all components have. */
const node = '/usr/bin/flynn-node'

function bundleArgs(name: string, ...args: readonly string[]): { args: string[] } {
  return { args: [node, `/bin/${name}.mjs`, ...args] }
}

/** System users; 999 is also what apps with a PostgreSQL of their own expect. */
const users: readonly FileSpec[] = [
  {
    kind: 'text',
    to: '/etc/passwd',
    text: `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/:/bin/false
haproxy:x:998:998:haproxy:/var/lib/haproxy:/bin/false
postgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
`,
  },
  {
    kind: 'text',
    to: '/etc/group',
    text: 'root:x:0:\ndaemon:x:1:\ntty:x:5:\nhaproxy:x:998:\npostgres:x:999:\nnogroup:x:65534:\n',
  },
  { kind: 'text', to: '/etc/nsswitch.conf', text: 'passwd: files\ngroup: files\nhosts: files dns\n' },
  { kind: 'text', to: '/etc/hosts', text: '127.0.0.1 localhost\n' },
]

const mountPoints: readonly FileSpec[] = [
  ...['/dev', '/proc', '/sys', '/run', '/var/lib', '/var/log', '/etc'].map(
    to => ({ kind: 'directory', to, mode: 0o755 }) as const,
  ),
  { kind: 'directory', to: '/root', mode: 0o700 },
  { kind: 'directory', to: '/tmp', mode: 0o1777 },
  { kind: 'directory', to: '/var/tmp', mode: 0o1777 },
  { kind: 'link', to: '/var/run', target: '/run' },
]

/** Parts of dependencies that only an installation with its own package manager uses. */
const packageManagement = [
  ...['adduser', 'debconf', 'dpkg', 'init-system-helpers', 'libsemanage*', 'lsb-base', 'passwd'],
  ...[
    'runit-helper',
    'sensible-utils',
    'sysuser-helper',
    'sysvinit-utils',
    'tar',
    'ucf',
    'usrmerge',
    'usr-is-merged',
  ],
]

const baseLayers: readonly LayerSpec[] = [
  // Alone, so that platform and apps run one node binary: on disk once, and once in memory.
  { name: 'node', steps: ['node-binary'] },
  {
    name: 'node-base',
    over: ['node'],
    mergedUsr: true,
    packages: {
      install: [
        ...['libc6', 'libc-bin', 'libstdc++6', 'busybox-static', 'tini', 'runit', 'tzdata'],
        ...['ca-certificates', 'netbase', 'libcap-ng0'],
      ],
      only: { 'util-linux': ['usr/bin/setpriv'] },
      without: [...packageManagement, 'openssl', 'perl*', 'debianutils', 'libaudit*', 'libpam*'],
      prune: [
        'usr/share/zoneinfo/{posix,right}',
        'etc/{bindresvport.blacklist,ca-certificates,ethertypes,rpc,runit,service,sv,update-motd.d}',
        'usr/bin/{cpsv,iconv,localedef,pldd,tini-static,tzselect,zdump}',
        'usr/lib/{lsb,runit}',
        'usr/lib/*/gconv',
        'usr/sbin/{iconvconfig,runit*,shutdown.runit,zic}',
        'usr/share/{libc-bin,runit,xml}',
      ],
    },
    steps: ['ca-bundle', 'busybox-links'],
    files: [
      ...mountPoints,
      ...users,
      { kind: 'text', to: node, text: nodeLauncher({ node: '/usr/bin/node', resident: true }), mode: 0o755 },
    ],
  },
  {
    name: 'postgres-base',
    over: ['node', 'node-base'],
    packages: {
      // python3-etcd is what Patroni speaks etcd's version 2 and 3 protocols with; pgextwlist, named after the server's
      // version, lets an app's user install the extensions that are on the list.
      install: ['postgresql', '?name(^postgresql-[0-9]+-pgextwlist$)', 'patroni', 'python3-etcd'],
      // What `flynn pg psql` pages with and `flynn pg restore -j` runs.
      only: { bash: ['*bin/bash'], less: ['*bin/less'] },
      without: [
        ...packageManagement,
        ...['libclang*', 'libllvm*', 'libz3*', 'perl*', 'libperl*', 'libjson-perl', 'libjson-xs-perl'],
        ...['libcommon-sense-perl', 'libtypes-serialiser-perl', 'libfile-*-perl', 'libnumber-*-perl'],
        ...[
          'libtext-*-perl',
          'locales*',
          'libc-l10n',
          'openssl',
          'postgresql-common*',
          'ssl-cert',
          'iproute2',
        ],
        ...[
          'postgresql-client-common',
          'libpam-modules*',
          'readline-common',
          'libipc-run-perl',
          'media-types',
        ],
      ],
      prune: [
        'usr/lib/postgresql/*/lib/{bitcode,llvmjit*}',
        'usr/lib/python3*/{ensurepip,idlelib,lib2to3,pydoc_data,tkinter,turtledemo,test,unittest/test,distutils}',
        'usr/lib/python3*/config-*',
        'usr/lib/python3/dist-packages/{psycopg2,psutil,dns,click,prettytable}/tests',
        'usr/share/{perl5,postgresql-common,python3,pam,pam-configs,binfmts}',
        'usr/bin/{pdb3*,pydoc3*,pygettext3*,py3*}',
        'etc/patroni',
        'usr/lib/valgrind',
      ],
    },
    steps: ['postgres-links', 'compile-python'],
    files: [
      { kind: 'directory', to: '/var/lib/postgresql', mode: 0o750, owner: { uid: 999, gid: 999 } },
      { kind: 'directory', to: '/run/postgresql', mode: 0o775, owner: { uid: 999, gid: 999 } },
    ],
  },
  {
    name: 'etcd-base',
    over: ['node', 'node-base'],
    packages: { install: ['etcd-server'], without: packageManagement },
  },
  {
    name: 'haproxy-base',
    over: ['node', 'node-base'],
    packages: {
      install: ['haproxy'],
      without: packageManagement,
      prune: ['etc/{haproxy,rsyslog.d,vim}', 'usr/share/vim'],
    },
    files: [{ kind: 'directory', to: '/var/lib/haproxy', mode: 0o755 }],
  },
  {
    name: 'stack',
    over: ['node'],
    distribution: {
      install: [
        ...['build-essential', 'ca-certificates', 'curl', 'git', 'iproute2', 'less', 'netbase', 'openssl'],
        ...['pkg-config', 'postgresql-client', 'procps', 'python3', 'python3-pip', 'python3-venv', 'tzdata'],
        ...['unzip', 'xz-utils'],
      ],
      prune: [
        'usr/share/{man,info,locale,lintian,bug,doc-base,bash-completion,zsh,fish}',
        'usr/share/perl/*/{pod,unicore/lib}',
      ],
    },
    steps: ['npm', 'compile-python'],
    files: [
      ...mountPoints.filter(file => file.to !== '/var/run'),
      { kind: 'append', to: '/etc/passwd', text: 'app:x:1000:1000:app:/app:/bin/bash\n' },
      { kind: 'append', to: '/etc/group', text: 'app:x:1000:\n' },
      { kind: 'directory', to: '/app', mode: 0o755, owner: { uid: 1000, gid: 1000 } },
    ],
  },
]

type ComponentOptions = Omit<LayerSpec, 'name' | 'over' | 'bundles'> & {
  readonly over?: readonly string[]
  readonly bundles: readonly BundleSpec[]
}

function component(name: string, options: ComponentOptions): LayerSpec {
  return { ...options, name, over: options.over ?? ['node', 'node-base'] }
}

const componentLayers: readonly LayerSpec[] = [
  component('discoverd', {
    over: ['node', 'node-base', 'etcd-base'],
    bundles: [{ name: 'flynn-discoverd', entry: 'discoverd/main.ts' }],
  }),
  component('postgres', {
    over: ['node', 'node-base', 'postgres-base'],
    bundles: [{ name: 'flynn-postgres', entry: 'appliance/postgresql/main.ts' }],
    files: [
      {
        kind: 'copy',
        to: '/bin/start-flynn-postgres',
        from: 'appliance/postgresql/image/start-flynn-postgres',
        mode: 0o755,
      },
      {
        kind: 'copy',
        to: '/bin/flynn_patroni.py',
        from: 'appliance/postgresql/image/flynn_patroni.py',
        mode: 0o644,
      },
    ],
  }),
  component('controller', {
    bundles: ['web', 'scheduler', 'worker'].map(name => ({
      name: `flynn-controller-${name}`,
      entry: `controller/${name}/main.ts`,
    })),
  }),
  component('router', {
    over: ['node', 'node-base', 'haproxy-base'],
    bundles: [{ name: 'flynn-router', entry: 'router/main.ts' }],
    files: [
      { kind: 'copy', to: '/bin/start-flynn-router', from: 'router/image/start-flynn-router', mode: 0o755 },
      { kind: 'copy', to: '/etc/flynn-router/services', from: 'router/image/services' },
    ],
  }),
  component('blobstore', { bundles: [{ name: 'flynn-blobstore', entry: 'blobstore/main.ts' }] }),
  component('logaggregator', { bundles: [{ name: 'flynn-logaggregator', entry: 'logaggregator/main.ts' }] }),
  component('status', { bundles: [{ name: 'flynn-status', entry: 'status/main.ts' }] }),
]

export const layers: readonly LayerSpec[] = [...baseLayers, ...componentLayers]

const nodeBase = ['node', 'node-base'] as const

export const images: readonly ImageSpec[] = [
  {
    name: 'discoverd',
    layers: [...nodeBase, 'etcd-base', 'discoverd'],
    entrypoints: { app: bundleArgs('flynn-discoverd') },
  },
  {
    name: 'postgres',
    layers: [...nodeBase, 'postgres-base', 'postgres'],
    entrypoints: {
      postgres: { args: ['/bin/start-flynn-postgres', 'postgres'] },
      web: { args: ['/bin/start-flynn-postgres', 'api'] },
    },
  },
  {
    name: 'controller',
    layers: [...nodeBase, 'controller'],
    entrypoints: {
      web: bundleArgs('flynn-controller-web'),
      scheduler: bundleArgs('flynn-controller-scheduler'),
      worker: bundleArgs('flynn-controller-worker'),
    },
  },
  {
    name: 'router',
    layers: [...nodeBase, 'haproxy-base', 'router'],
    entrypoints: { app: { args: ['/bin/start-flynn-router'], env: { HAPROXY_USER: 'haproxy' } } },
  },
  {
    name: 'blobstore',
    layers: [...nodeBase, 'blobstore'],
    entrypoints: { web: bundleArgs('flynn-blobstore') },
  },
  {
    name: 'logaggregator',
    layers: [...nodeBase, 'logaggregator'],
    entrypoints: { app: bundleArgs('flynn-logaggregator') },
  },
  { name: 'status', layers: [...nodeBase, 'status'], entrypoints: { web: bundleArgs('flynn-status') } },
  { name: 'stack', layers: ['node', 'stack'] },
]

/** Programs that run on a host itself, in build/host, beside the node binary. */
export const hostBundles: readonly BundleSpec[] = [
  { name: 'flynn-host', entry: 'host/main.ts' },
  { name: 'flynn', entry: 'cli/main.ts', split: true },
]
