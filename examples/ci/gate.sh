#!/usr/bin/env bash
# A TTFT gate for any CI: exit 0 pass, 1 regression, 2 no verdict possible, 3 not decided within the budget, 4 wrong KV loaded.
#   CANDIDATE, BASE   arms
#   MARGIN            how much slower the candidate may be, or how long it may take, several with spaces: "p50:10% p95:800ms"
#   BUDGET            the whole measurement ends within it
#   EXPERIMENT, WORKLOAD, STORE   what is measured
#   TTFT              the command, if it is installed; else the harness is installed from where this script lies, or from
#   TTFT_SOURCE       a Git URL or folder (and TTFT_REF, a branch or tag of it), into .ttft
set -euo pipefail

candidate=${CANDIDATE:-layerwise:depth=4}
base=${BASE:-chunkwise:pool=8}
margin=${MARGIN:-p50:10%}
budget=${BUDGET:-10m}
out=${OUT:-results/gate}

# Sets `ttft`. A call with nothing to install takes a second, so a cached folder is worth keeping.
install_ttft() {
  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
  if [[ ! -f $root/harness/__init__.py ]]; then
    if command -v ttft >/dev/null; then
      ttft=ttft
      return
    fi
    if [[ -z ${TTFT_SOURCE:-} ]]; then
      echo "error: there is no ttft here; set TTFT_SOURCE to the harness's Git URL or folder, or TTFT to the command" >&2
      exit 2
    fi
    root=$PWD/.ttft
    if [[ ! -d $root ]]; then
      git clone --quiet --depth 1 ${TTFT_REF:+--branch "$TTFT_REF"} "$TTFT_SOURCE" "$root" || exit 2
    fi
  fi
  make --no-print-directory -C "$root" setup >&2 || exit 2
  ttft=$root/.venv/bin/ttft
}
ttft=${TTFT:-}
[[ -n $ttft ]] || install_ttft

read -ra bounds <<<"$margin"
words=(gate --run "${EXPERIMENT:-default}" --candidate "$candidate" --base "$base")
for bound in "${bounds[@]}"; do words+=(--max "$bound"); done
words+=(--budget "$budget" --out "$out")
[[ -z ${WORKLOAD:-} ]] || words+=(--workload "$WORKLOAD")
[[ -z ${STORE:-} ]] || words+=(--store "$STORE")
# Only ratios go into a history: milliseconds of two machines do not compare.
[[ $margin != *%* ]] || words+=(--history "${HISTORY:-results/history.csv}")

status=0
"$ttft" "${words[@]}" || status=$?

# What the CI system keeps or shows: verdict.md as a summary, junit.xml as a test report, the folder as an artifact.
if [[ -n ${GITHUB_STEP_SUMMARY:-} && -f $out/verdict.md ]]; then
  cat "$out/verdict.md" >>"$GITHUB_STEP_SUMMARY"
fi
if [[ -n ${GITHUB_OUTPUT:-} ]]; then
  echo "exit-code=$status" >>"$GITHUB_OUTPUT"
fi

# Undecided is no regression: let the pipeline go on, but visibly. Remove this to be strict.
if [[ $status == 3 && ${STRICT:-0} != 1 ]]; then
  echo "undecided within $budget: not counted as a failure (STRICT=1 would)" >&2
  status=0
fi
exit "$status"
