# Sourced by the other scripts: makes .venv ready, and does nothing when nothing has changed since the last time.
# Needs a Python >= 3.12 somewhere, a C compiler, and a package index that pip can reach. PYTHON=/path chooses one.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

say() { printf 'iconvsr: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Whether $1 is a Python that VapourSynth's wheels install on, with what a virtual environment needs.
is_new_enough() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

find_python() {
    local candidate
    {
        printf '%s\n' "${PYTHON:-}" python3.12 python3.13 python3.14 python3 python
        # pyenv's shims answer for one version only: its interpreters are asked by their paths
        command -v pyenv >/dev/null && printf '%s\n' "$(pyenv root)"/versions/3.1[2-9]*/bin/python
        printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python
        # another user's pyenv, or a changed HOME: the installations lie beside the one that python3 leads to
        python3 -c 'import glob, sys; print(*sorted(glob.glob(sys.base_prefix + "/../3.1[2-9]*/bin/python")), sep="\n")'
        command -v uv >/dev/null && uv python find '>=3.12' 2>/dev/null
        printf '%s\n' "$HOME"/.local/share/uv/python/cpython-3.1[2-9]*/bin/python3
    } 2>/dev/null | while read -r candidate; do
        if [ -n "$candidate" ] && is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            break
        fi
    done
}

# Runs a command that takes minutes; on a terminal a clock shows that it is alive. Its output is shown when it fails.
with_clock() {
    local what=$1 log pid start=$SECONDS
    shift
    log=$(mktemp)
    say "$what"
    "$@" >"$log" 2>&1 &
    pid=$!
    while [ -t 2 ] && kill -0 "$pid" 2>/dev/null; do
        printf '\r  %d s ' "$((SECONDS - start))" >&2
        sleep 1
    done
    if ! wait "$pid"; then
        tail -n 30 "$log" >&2
        rm -f "$log"
        return 1
    fi
    [ -t 2 ] && printf '\r' >&2
    say "done in $((SECONDS - start)) s"
    rm -f "$log"
}

# prepare EXTRA: installs the checkout with this extra (command or dev) unless that has been done.
prepare() {
    local extra=$1 python wanted installed=$venv/.iconvsr-installed
    wanted="$(cat "$root/pyproject.toml" "$root"/vs_iconvsr/plugin/native/* "$root"/vs_iconvsr/options.py | cksum) $root"
    if [ -f "$installed" ] && [ "$(head -n 1 "$installed")" = "$wanted" ] && grep -qxF "extra:$extra" "$installed"; then
        return
    fi
    if ! [ -x "$venv/bin/python" ] || ! is_new_enough "$venv/bin/python"; then
        python=$(find_python)
        [ -n "$python" ] || die "expected a Python >= 3.12 with venv, found none on PATH, in pyenv or in uv; install one" \
            "(apt install python3.12-venv, pyenv install 3.12, or uv python install 3.12), or name it: PYTHON=/path/to/python"
        say "making .venv with $("$python" --version)"
        rm -rf "$venv"
        "$python" -m venv "$venv"
    fi
    command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null ||
        die "expected a C compiler for the VapourSynth plugin, found none; install one (apt install gcc)"
    with_clock "installing torch, VapourSynth and the rest into .venv (about 6 GB and some minutes the first time)" \
        "$venv/bin/python" -m pip install --disable-pip-version-check -e "$root[$extra]" ||
        die "the installation failed, see above"
    # Without this vspipe does not start from a virtual environment whose bin is not on PATH.
    "$venv/bin/vapoursynth" config >/dev/null || die "'vapoursynth config' failed"
    { printf '%s\n' "$wanted"; printf 'extra:command\nextra:%s\n' "$extra"; } >"$installed" # the others bring it
}
