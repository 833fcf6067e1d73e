#!/usr/bin/env bash
# Every host family on one data set, with and without D³:  run.sh CUB [options of d3 compare]
# $D3_DATA holds the folders CUB, AWA2, FLO, SUN and APY, each with res101.mat and att_splits.mat.
set -euo pipefail
name=${1:?which data set: CUB, AWA2, FLO, SUN or APY}
shift
here=$(cd "$(dirname "$0")" && pwd)
for adapter in fclswgan tfvaegan diffusion; do
    d3 compare --settings "$here/$name-$adapter.json" --data "${D3_DATA:?folder of the data sets}/$name" \
        --seeds 5 --variants default,released --out "runs/$name-$adapter" "$@"
done
