#!/bin/sh
# background.sh LOG PROGRAM ARG...: starts PROGRAM in a session of its own, output appended to LOG, and prints its pid.
# Runs inside a test host: the program's parent becomes the host's PID 1 when this script ends.
set -eu
log=$1
shift
mkdir -p "$(dirname "$log")"
setsid "$@" </dev/null >>"$log" 2>&1 &
echo $!
