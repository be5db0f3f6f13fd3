#!/usr/bin/env bash
# The demonstration of `make run`: a resnet20_cifar on scikit-learn's scanned digits, no network needed.
# Usage: scripts/demo.sh [folder of the resnets command]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-.venv/bin}
run=runs/digits

rm -rf "$run"
"$bin/resnets" train digits --model resnet20_cifar --output "$run"
"$bin/resnets" val digits --model "$run"
"$bin/resnets" predict "$run/samples" --model "$run"

cat <<END

Everything is in $run:
  report.html    open it in a browser: curves, confusion matrix, hardest pictures
  results.csv    a row an epoch
  best/          the model folder; any command takes it as --model $run

What to type next:
  $bin/resnets info $run
  $bin/resnets train path/to/pictures --model resnet18     # path/to/pictures/train/CLASS/*.jpg
  $bin/resnets --help
END
