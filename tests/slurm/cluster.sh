#!/usr/bin/env bash
# A SLURM cluster of one node on this machine: accounting, two pretended GPUs, a partition and a preemptible one.
#
#     tests/slurm/cluster.sh start | stop        as root, with Debian's packages that .ci/run installs
#
# Everything lies in $SLURM_TEST_FOLDER, but for links in /etc/slurm, where the commands look for their configuration.
set -Eeuo pipefail
trap 'echo "$0: failed in line $LINENO: $BASH_COMMAND" >&2' ERR

folder=${SLURM_TEST_FOLDER:-/tmp/fspkd-slurm}
host=$(hostname -s)
socket=$folder/mysql/socket
links=(slurm.conf gres.conf cgroup.conf slurmdbd.conf)
export MYSQL_UNIX_PORT=$socket  # else slurmdbd insists on the system's MariaDB

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
    for file in "${links[@]}"; do
        [ ! -L "/etc/slurm/$file" ] || rm "/etc/slurm/$file"
    done
}

not_running() { ! running "$1"; }

configure() {
    # More CPUs and memory than there are: jobs wait for a GPU and for nothing else.
    local cpus=4 memory=64000
    for gpu in 0 1; do
        [ -e "$folder/gpu$gpu" ] || mknod "$folder/gpu$gpu" c 1 3  # as /dev/null
    done
    cat >"$folder/slurmdbd.conf" <<END
AuthType=auth/munge
DbdHost=$host
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
NodeName=$host Name=gpu Type=pretended File=$folder/gpu[0-1]
END
    cat >"$folder/cgroup.conf" <<END
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=yes
END
    cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host
SlurmUser=root
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
AuthType=auth/munge
AuthInfo=cred_expire=20
MpiDefault=none
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=30
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$host
AccountingStorageTRES=gres/gpu
AccountingStorageEnforce=associations
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
DefMemPerCPU=1000
NodeName=$host CPUs=$cpus RealMemory=$memory Gres=gpu:pretended:2
PartitionName=normal Nodes=$host Default=YES MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=10
PartitionName=preemptible Nodes=$host MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=cancelling Nodes=$host MaxTime=1-00:00:00 DefaultTime=10 PriorityTier=1 PreemptMode=CANCEL GraceTime=5
END
    mkdir -p /etc/slurm
    for file in "${links[@]}"; do
        if [ -e "/etc/slurm/$file" ] && [ ! -L "/etc/slurm/$file" ]; then
            echo "/etc/slurm/$file: this machine belongs to a cluster, which is left alone" >&2
            exit 1
        fi
        ln -sfn "$folder/$file" "/etc/slurm/$file"
    done
}

start() {
    mkdir -p "$folder"/{run,log,state,spool,mysql} /run/munge
    if ! munge -n >/dev/null 2>&1; then
        [ -s /etc/munge/munge.key ] || head -c 1024 /dev/urandom >/etc/munge/munge.key
        chown -R munge:munge /etc/munge /run/munge /var/log/munge /var/lib/munge
        chmod 400 /etc/munge/munge.key
        runuser -u munge -- /usr/sbin/munged
        ln -sf /run/munge/munged.pid "$folder/run/munged.pid"
        wait_for 20 munge -n
    fi
    if ! running mariadbd; then
        chown -R mysql:mysql "$folder/mysql"
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
    running slurmd || slurmd
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
