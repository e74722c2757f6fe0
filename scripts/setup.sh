#!/usr/bin/env bash
# Installs what is missing: system packages, then .venv from the locked requirements. Says nothing when nothing is.
# usage: scripts/setup.sh [slurm|lab|dev]
#   slurm adds what profiles/slurm needs, lab what `make lab-ssh` needs, dev both and what `make test` needs
set -euo pipefail
# What the user has set for other programs. pip keeps what says where packages come from.
unset -v "${!PYTHON@}" PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_DRY_RUN
unset -v CDPATH # with it cd may print, and go elsewhere
cd "$(dirname "$(readlink -f "$0")")/.."

die() {
    echo "setup: $1" >&2
    exit 1
}

have() {
    local command
    for command; do command -v "$command" >/dev/null || return; done
}

manager=
for name in apt-get dnf pacman; do
    have "$name" && manager=$name && break
done

# Debian's name of a package as the manager's distribution has it, and nothing where that has no such package.
# Those of Fedora and Arch were looked up, not tried: docs/setup.md.
package() {
    local fedora=$1 arch=$1
    case $1 in
    wrk | *-venv) fedora='' arch='' ;; # Python's own has venv
    libc6-dev) fedora=glibc-devel arch=glibc ;;
    liburing-dev) fedora=liburing-devel arch=liburing ;;
    iproute2) fedora='iproute iproute-tc' ;;
    openssh-client) fedora=openssh-clients arch=openssh ;;
    librsvg2-bin) fedora=librsvg2-tools arch=librsvg ;;
    fonts-dejavu-core) fedora=dejavu-sans-fonts arch=ttf-dejavu ;;
    python3*-dev) fedora=${1}el arch=python ;;
    python3*) arch=python ;;
    shellcheck) fedora=ShellCheck ;;
    libclang-rt-*) fedora=compiler-rt arch=compiler-rt ;;
    nix-bin) fedora=nix arch=nix ;;
    slurm-wlm) fedora='slurm slurm-slurmctld slurm-slurmd' arch=slurm-llnl ;;
    esac
    case $manager in
    dnf) echo "$fedora" ;;
    pacman) echo "$arch" ;;
    *) echo "$1" ;;
    esac
}

# need PACKAGE TEST...: the package is missing when the test fails
missing=()
need() {
    "${@:2}" >/dev/null 2>&1 && return
    local names
    read -ra names <<<"$(package "$1")"
    missing+=("${names[@]}")
}

includes() { gcc -E -include "$1" -xc /dev/null; }
lacks_packages() { [[ $manager == dnf || $manager == pacman ]]; } # of wrk, and of liburing's static archive
liburing_has_archive() { [[ $(gcc -print-file-name=liburing.a) == /* ]]; }
liburing_is_whole() { includes liburing.h && { lacks_packages || liburing_has_archive; }; }
font_exists() { [[ $(find -L /usr/share/fonts ~/.local/share/fonts -name DejaVuSans.ttf -print -quit 2>/dev/null) ]]; }
fuzzer_links() { clang -fsanitize=fuzzer -xc - -o /dev/null <<<'int LLVMFuzzerTestOneInput(void) { return 0; }'; }
have_in_sbin() { PATH=.venv/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin have "$@"; }
chromium_exists() { have chromium || have chromium-browser || have google-chrome; }
perf_works() { perf --version >/dev/null 2>&1; } # Ubuntu's perf is a wrapper that fails without the kernel's own

# The right to install: root, sudo without a password, or sudo with someone there to type it.
as_root=()
may_install() {
    [[ $manager ]] || return
    [[ $(id -u) == 0 ]] && return
    have sudo || return
    if sudo -n true 2>/dev/null; then as_root=(sudo -n); elif [[ -t 0 ]]; then as_root=(sudo); else return 1; fi
}

apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

# What only tests need must not start as a service: invoke-rc.d(8) asks this file.
without_services() {
    local policy=/usr/sbin/policy-rc.d status=0
    if [[ -e $policy ]]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod +x "$policy"
    "$@" || status=$?
    "${as_root[@]}" rm "$policy"
    return "$status"
}

install_packages() {
    case $manager in
    apt-get)
        apt_get update || true # one broken source of many need not matter: the install decides
        local quietly=()
        [[ " $* " != *" munge "* ]] || quietly=(without_services)
        "${quietly[@]}" apt_get install --no-install-recommends "$@"
        ;;
    dnf) "${as_root[@]}" dnf install --quiet --assumeyes --setopt=install_weak_deps=False "$@" >/dev/null ;;
    pacman) "${as_root[@]}" pacman -S --needed --noconfirm "$@" >/dev/null ;;
    esac
}

by_hand() {
    case $manager in
    dnf) echo "with: sudo dnf install $*" ;;
    pacman) echo "with: sudo pacman -S $*" ;;
    *) echo "on Debian or Ubuntu with: sudo apt-get install --no-install-recommends $*" ;;
    esac
}

# What a venv was made of; it is remade when any of it changes, since its scripts hold absolute paths.
venv_state() {
    readlink -e .venv/bin/python || true
    pwd
    cat "$1"
}

# Not %q, which takes \$'...' for a letter beyond ASCII: sh does not know that.
quoted() { printf "'%s'" "${1//\'/\'\\\'\'}"; }

# .venv/bin/snakemake ignores PYTHONPATH and its like (-I), which would bring another Python's packages. It names no
# path of the checkout: a copy of that must not run the original's.
start_script() {
    cat <<'END'
#!/bin/sh
checkout=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
exec "$checkout/.venv/bin/python" -I -X utf8 "$checkout/scripts/start_snakemake.py" "$@"
END
}

install_start_script() {
    start_script | cmp -s - .venv/bin/snakemake && return
    rm -f .venv/bin/snakemake # not to be written through a link
    start_script >.venv/bin/snakemake
    chmod +x .venv/bin/snakemake
}

installed() { venv_state "$1" | cmp -s - ".venv/$1"; }

install_python_packages() {
    echo "setup: installing $1 into .venv (up to a minute)"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r "$1" ||
        die "pip could not install $1 (its reason is above): fix that and run this again"
    venv_state "$1" >".venv/$1" # last, so that an interrupted install is redone
}

find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    done
    return 1
}

need_python() {
    installed requirements.txt && return
    if find_python; then
        need "$python-venv" "$python" -c 'import ensurepip, venv'
        # From 3.14 on, one of Snakemake's dependencies (immutables) has no wheel and is compiled.
        need "$python-dev" "$python" -c 'import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(sys.version_info >= (3, 14) and not os.path.exists(header))'
    elif have python3; then
        die "Python 3.11 or newer is needed and $(python3 --version) is too old: install python3.11 (or newer) and its venv module"
    else
        need python3 false
        need python3-venv false
    fi
}

need_fuzzer() {
    need clang have clang
    have clang || return 0
    local version
    version=$(clang -dumpversion)
    need "libclang-rt-${version%%.*}-dev" fuzzer_links
}

install_missing() {
    ((${#missing[@]})) || return 0
    may_install || die "missing ${missing[*]}: install them, $(by_hand "${missing[@]}")"
    echo "setup: installing with $manager: ${missing[*]}"
    install_packages "${missing[@]}" || die "$manager could not install ${missing[*]} (its reason is above)"
    missing=()
}

# unpack PACKAGE...: of servers that as packages would start as services, on ports 80 and 22; into $folder, with the libraries that they need and this machine lacks in $libraries
unpack() {
    local package
    have apt-get dpkg || die "missing $*: install them"
    echo "setup: unpacking $* into .venv"
    if may_install; then apt_get update || true; fi
    rm -rf "$folder"
    mkdir -p "$folder/archives/partial"
    # Without the right to install, hence without locks: nothing but these archives is written.
    apt-get -qq --yes --download-only --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::archives="$folder/archives" install "$@" >/dev/null ||
        die "apt-get could not download $* (its reason is above)"
    for package in "$folder"/archives/*.deb; do dpkg -x "$package" "$folder"; done
    rm -r "$folder/archives"
    libraries=$folder/usr/lib/$(gcc -print-multiarch):$folder/lib/$(gcc -print-multiarch)
}

# The servers that tests compare ours with.
unpack_yardsticks() {
    local missing=() server modules=() folder=$PWD/.venv/yardsticks libraries
    for server in nginx h2o lighttpd; do have_in_sbin "$server" || missing+=("$server"); done
    ((${#missing[@]})) || return 0
    unpack "${missing[@]/nginx/nginx-light}"
    for server in "${missing[@]}"; do
        [[ $server != lighttpd ]] || modules=(-m "$folder/usr/lib/lighttpd") # the last
        unpacked "$server" "$folder"/usr/*bin/"$server" "${modules[@]}"
    done
}

# The lab's own: make lab-ssh.
unpack_sshd() {
    local folder=$PWD/.venv/sshd libraries part path helpers=()
    have_in_sbin sshd && return
    unpack openssh-server
    for part in Session Auth; do # from 9.8 on it is several programs
        path=$folder/usr/lib/openssh/sshd-${part,,}
        [[ ! -e $path ]] || helpers+=(-o "Sshd${part}Path=$path")
    done
    unpacked sshd "$folder/usr/sbin/sshd" "${helpers[@]}"
}

# unpacked NAME PROGRAM [ARGUMENT...]: a command that runs it from where it lies
unpacked() {
    local word words=
    for word in "${@:2}"; do words+="$(quoted "$word") "; done
    printf '#!/bin/sh\nexport LD_LIBRARY_PATH=%s H2O_ROOT=%s\nexec %s"$@"\n' \
        "$(quoted "$libraries")" "$(quoted "$folder/usr")" "$words" >".venv/bin/$1"
    chmod +x ".venv/bin/$1"
}

need make have make
need gcc have gcc
need libc6-dev includes stdio.h # gcc only recommends it
need liburing-dev liburing_is_whole
need wrk have wrk
need iproute2 have_in_sbin ss ip tc
need librsvg2-bin have rsvg-convert
need fonts-dejavu-core font_exists
need util-linux have flock setpriv taskset
if [[ ${1-} == @(lab|dev) ]]; then need openssh-client have ssh ssh-keygen; fi
if [[ ${1-} == dev ]]; then
    need slurm-wlm have_in_sbin slurmctld slurmd
    need munge have_in_sbin munged
    need nix-bin have nix-instantiate
    need cppcheck have cppcheck
    need shellcheck have shellcheck
    need chromium chromium_exists
fi
# Twice, since what a python or a clang lacks is known only once there is one.
for _ in first again; do
    need_python
    [[ ${1-} != dev ]] || need_fuzzer
    install_missing
done

if lacks_packages; then
    have wrk || die "missing wrk, of which no package is known: build https://github.com/wg/wrk and put it on your PATH"
    liburing_has_archive || die "missing liburing.a, which the package of liburing leaves out: in a checkout of \
https://github.com/axboe/liburing at its version, ./configure && make -C src && sudo install -m644 src/liburing.a /usr/lib"
fi

if ! installed requirements.txt; then
    [[ ! -L .venv ]] || rm .venv # --clear would empty what it points to: another checkout's
    "$python" -m venv --clear .venv || die "$python could not make .venv (its reason is above)"
    install_python_packages requirements.txt
fi
if [[ ${1-} == @(slurm|dev) ]]; then
    installed requirements-slurm.txt || install_python_packages requirements-slurm.txt
fi
if [[ ${1-} == dev ]]; then
    installed requirements-dev.txt || install_python_packages requirements-dev.txt
    unpack_yardsticks
fi
install_start_script
if [[ ${1-} == @(lab|dev) ]]; then unpack_sshd; fi

# Tried once: without perf all but the flamegraphs works, and they say why they are missing.
if ! perf_works && [[ ! -e .venv/perf-was-tried ]]; then
    if may_install; then
        echo "setup: installing perf with $manager"
        perf=(perf)
        [[ $manager != apt-get ]] || perf=(linux-perf "linux-tools-$(uname -r)" linux-tools-generic)
        for name in "${perf[@]}"; do
            install_packages "$name" 2>/dev/null && perf_works && break
        done
    fi
    perf_works || echo "setup: perf is missing and could not be installed: flamegraphs will say so (Debian: linux-perf, Ubuntu: linux-tools-$(uname -r), elsewhere: perf)" >&2
    touch .venv/perf-was-tried
fi
