#!/usr/bin/env bash
# The demonstration of `make run`: a resnet20_cifar on scikit-learn's scanned digits, no network needed.
# Usage: scripts/demo.sh [folder of the resnets command] [options of resnets train]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-.venv/bin}
run=runs/digits

rm -rf "$run"
"$bin/resnets" train digits --model resnet20_cifar --output runs --name digits "${@:2}"
echo
"$bin/resnets" val digits --model "$run"
echo
"$bin/python" scripts/digit_pictures.py "$run/pictures"
"$bin/resnets" predict "$run/pictures" --model "$run"

cat <<END

Everything is in $run:
  report.html   curves, confusion matrix and the worst mistakes; open it in a browser
  results.csv   a row an epoch
  best/         the model folder
  pictures/     the held-out digits of the predictions above

Type next:
  $bin/resnets info $run
  $bin/resnets train FOLDER --model resnet18    # your pictures, as FOLDER/train/CLASS/*.jpg
  $bin/resnets --help
END
