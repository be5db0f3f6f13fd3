#!/usr/bin/env bash
# The demonstration of `make run`: train a resnet20_cifar on scikit-learn's scanned digits, without a network.
# Usage: scripts/demo.sh [folder of the resnets command] [options of resnets train]
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

# The digits have 8x8 pixels: at twice that, the last feature maps have 4x4 cells instead of 2x2. A fifth is held out.
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
  report.html   curves, confusion matrix and the most confident errors; open it in a browser
  results.csv   one row per epoch
  best/         the model folder
  images/       held-out digits as PNG files, each named after its class

Type next:
  $bin/resnets info $run
  $bin/resnets train FOLDER    # your own images, as FOLDER/train/CLASS/*.jpg
  $bin/resnets --help
END
