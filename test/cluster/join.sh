#!/bin/sh
# join.sh COUNT FILE... PROGRAM ARG...: enters the cgroups of the COUNT given cgroup.procs files, then becomes PROGRAM.
# Only a process itself can do this before its first child exists; nsenter changes namespaces but not cgroups.
set -eu
count=$1
shift
while [ "$count" -gt 0 ]; do
  echo $$ >"$1"
  shift
  count=$((count - 1))
done
exec "$@"
