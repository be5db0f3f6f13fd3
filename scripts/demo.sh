#!/usr/bin/env bash
# Demo of `make run`: trains resnet20_cifar on scikit-learn's digits, without network access.
# Usage: scripts/demo.sh [FOLDER of the resnets command (default: .venv/bin)] [options of resnets train]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-.venv/bin}
name=digits
for ((number = 2; ; number++)); do  # keep earlier runs
    [[ -e runs/$name ]] || break
    name=digits-$number
done
run=runs/$name

say() { printf '\n$ resnets %s\n' "$*"; }

# The digits are 8x8; at 16x16 the last feature maps are 4x4 instead of 2x2. A fifth is held out for validation.
train=(train digits --model resnet20_cifar --img-size 16 --val-fraction 0.2 --output runs --name "$name" "${@:2}")
say "${train[@]}"
"$bin/resnets" "${train[@]}"
say val "$run"
"$bin/resnets" val "$run"
"$bin/python" scripts/digit_images.py "$run"
say predict "$run/images" --model "$run"
"$bin/resnets" predict "$run/images" --model "$run"

cat <<END

Everything is in $run:
  report.html   curves, confusion matrix and most confident errors; open it in a browser
  results.csv   metrics per epoch
  best/         the model folder
  images/       held-out digits as PNG files, named after their class

Next:
  $bin/resnets info $run
  $bin/resnets train FOLDER    # your own images, as FOLDER/train/CLASS/*.jpg
  $bin/resnets --help
END
