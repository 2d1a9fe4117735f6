#!/bin/sh
# Init of a sandbox (sandbox.ts), started in namespaces of its own; its arguments are the program. It is a shell script
# because init must be small, must reap orphans, and must not be the program itself: a process with id 1 does not get
# the signals it has no handler for.
#
# Descriptor 3 is the leash. "ready" goes out when all is furnished and the program exists; names of signals come in for the
# program; its end means that the outer process is gone. That is the second way to notice besides the chain of death
# signals, and the one without a race: a death signal that is set after the parent died never comes.
set -e
mount -t tmpfs -o mode=755 ambit /run
mkdir -p /run/netns /run/ambit
printf %s "$AMBIT_SANDBOX" > /run/ambit/sandbox
# So that /sys/class/net shows our interfaces; some containers forbid it, and nothing depends on it.
mount -t sysfs ambit /sys 2>/dev/null || :
ip link set lo up
set +e
{
  while read -r name <&3; do
    read -r pid < /run/ambit/.program && kill -s "$name" "$pid"
  done
  # All but init, which then ends because its foreground child has, and takes the namespaces with it.
  kill -KILL -1
} 2>/dev/null &
sh -c 'echo $$ > /run/ambit/.program; echo ready >&3; exec "$@" 3<&-' sh "$@"
exit $?
