#!/bin/sh
# sshd for the lab, in a mount namespace of its own, in which it sees the users and the empty folder that it wants: the
# machine may have neither, since its own sshd, if any, need not be installed or running.
# usage: unshare --mount scripts/lab/sshd.sh SSHD FOLDER
set -eu
sshd=$1 folder=$2
umask 022

mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/shadow" /etc/shadow

empty=$("$sshd" -t -f "$folder/sshd_config" 2>&1 | tr -d '\r' | sed -n 's/^Missing privilege separation directory: //p')
if [ "$empty" ]; then
    layer=$folder/layer
    mkdir "$layer"
    mount -t tmpfs tmpfs "$layer"
    mkdir -p "$layer/upper/${empty##*/}" "$layer/work"
    mount -t overlay -o "lowerdir=${empty%/*},upperdir=$layer/upper,workdir=$layer/work" overlay "${empty%/*}"
fi

exec "$sshd" -D -e -f "$folder/sshd_config"
