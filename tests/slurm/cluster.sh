#!/usr/bin/env bash
# A SLURM cluster of one node on this machine: accounting, two pretended GPUs, a partition and a preemptible one.
#
#     tests/slurm/cluster.sh start | stop        as root, with Debian's packages that .ci/run installs
#
# Everything lies in $SLURM_TEST_FOLDER, so that clusters can run side by side, beside a machine's own too. Commands find
# this one with SLURM_CONF=$SLURM_TEST_FOLDER/slurm.conf, and need $SLURM_TEST_FOLDER/bin first in PATH.
set -Eeuo pipefail
trap 'echo "$0: failed in line $LINENO: $BASH_COMMAND" >&2' ERR

folder=${SLURM_TEST_FOLDER:-/tmp/fspkd-slurm}
host=$(hostname -s)
socket=$folder/mysql/socket
export SLURM_CONF=$folder/slurm.conf  # the other files are looked for beside it
export MYSQL_UNIX_PORT=$socket        # else slurmdbd insists on the system's MariaDB

wait_for() {  # seconds, command...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > end)); then
            echo "gave up on: $*" >&2
            exit 1
        fi
        sleep 0.1
    done
}

running() {  # daemon
    [ -s "$folder/run/$1.pid" ] && kill -0 "$(cat "$folder/run/$1.pid")" 2>/dev/null
}

stop() {
    for daemon in slurmd slurmctld slurmdbd mariadbd munged; do
        if running "$daemon"; then
            kill "$(cat "$folder/run/$daemon.pid")"
            wait_for 30 not_running "$daemon"
        fi
    done
}

not_running() { ! running "$1"; }

configure() {
    # Below the ports that Linux gives out by itself; the workers of one pytest have a thousand each.
    local worker=${PYTEST_XDIST_WORKER:-gw0}
    [ -s "$folder/port" ] || echo $((10000 + 1000 * ${worker#gw} + 3 * (RANDOM % 333))) >"$folder/port"
    local port
    port=$(<"$folder/port")
    node=test-$port  # names its processes' control group too
    local authentication=socket=$folder/munge/socket,cred_expire=5  # which is also how long a requeued job waits
    # More CPUs and memory than there are: jobs wait for a GPU and for nothing else.
    local cpus=4 memory=64000
    for gpu in 0 1; do
        [ -e "$folder/gpu$gpu" ] || mknod "$folder/gpu$gpu" c 1 3  # as /dev/null
    done
    cat >"$folder/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=$authentication
DbdHost=$host
DbdPort=$((port + 2))
SlurmUser=root
LogFile=$folder/log/slurmdbd.log
PidFile=$folder/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
END
    chmod 600 "$folder/slurmdbd.conf"
    cat >"$folder/gres.conf" <<END
NodeName=$node Name=gpu Type=pretended File=$folder/gpu[0-1]
END
    cat >"$folder/cgroup.conf" <<END
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=yes
END
    cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
AuthType=auth/munge
AuthInfo=$authentication
MpiDefault=none
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=1
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=30
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$host
AccountingStoragePort=$((port + 2))
AccountingStoragePass=$folder/munge/socket  # else the system's munge would be asked
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
DefMemPerCPU=1000
NodeName=$node NodeHostname=$host CPUs=$cpus RealMemory=$memory Gres=gpu:pretended:2
PartitionName=normal Nodes=$node Default=YES MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=10
PartitionName=preemptible Nodes=$node MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=2
PartitionName=cancelling Nodes=$node MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=1 PreemptMode=CANCEL GraceTime=2
END
    # Snakemake's executor keeps SLURM_CONF from the srun in a job.
    cat >"$folder/bin/srun" <<END
#!/bin/sh
SLURM_CONF=$SLURM_CONF exec $(PATH=/usr/bin:/bin command -v srun) "\$@"
END
    chmod 755 "$folder/bin/srun"
}

start() {
    mkdir -p "$folder"/{bin,run,log,state,spool,mysql,munge}
    if ! running munged; then
        [ -s "$folder/munge/key" ] || head -c 1024 /dev/urandom >"$folder/munge/key"
        chmod 400 "$folder/munge/key"
        chown -R munge:munge "$folder/munge"
        runuser -u munge -- /usr/sbin/munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
            --seed-file="$folder/munge/seed" --log-file="$folder/munge/log" --pid-file="$folder/munge/pid"
        ln -sf "$folder/munge/pid" "$folder/run/munged.pid"
        wait_for 20 munge --no-input --socket="$folder/munge/socket"
    fi
    if ! running mariadbd; then
        mkdir -p "$folder/mysql/temporary"
        chown -R mysql:mysql "$folder/mysql"
        export TMPDIR=$folder/mysql/temporary  # each MariaDB clears another's tables away
        if [ ! -d "$folder/mysql/data" ]; then
            mariadb-install-db --no-defaults --user=mysql --datadir="$folder/mysql/data" --skip-test-db \
                --auth-root-authentication-method=socket >"$folder/log/mariadb-install.log" 2>&1
        fi
        setsid /usr/sbin/mariadbd --no-defaults --user=mysql --datadir="$folder/mysql/data" --socket="$socket" \
            --skip-networking --pid-file="$folder/mysql/pid" >"$folder/log/mariadbd.log" 2>&1 </dev/null &
        ln -sf "$folder/mysql/pid" "$folder/run/mariadbd.pid"
        wait_for 60 mariadb-admin --no-defaults --socket="$socket" ping
    fi
    mariadb --no-defaults --socket="$socket" -e "
        CREATE DATABASE IF NOT EXISTS slurm;
        CREATE USER IF NOT EXISTS 'slurm'@'localhost' IDENTIFIED BY 'slurm';
        GRANT ALL ON slurm.* TO 'slurm'@'localhost';"
    configure
    if ! running slurmdbd; then  # before slurmctld, which dies without it
        slurmdbd
        wait_for 60 sacctmgr -n list cluster
    fi
    sacctmgr -in add cluster test >/dev/null || true  # fails where they are there already
    sacctmgr -in add account research Cluster=test Description=test Organization=test >/dev/null || true
    sacctmgr -in add user root Account=research >/dev/null || true
    running slurmctld || slurmctld
    running slurmd || slurmd -N "$node"
    wait_for 60 node_is_up
    sinfo --Node --long
}

node_is_up() { sinfo --noheader --format=%t | grep -qE "idle|mix|alloc"; }

case ${1:-} in
start | stop) "$1" ;;
*)
    echo "usage: $0 start | stop" >&2
    exit 2
    ;;
esac
