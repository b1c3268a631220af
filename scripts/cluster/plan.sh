# A plan of 24 small cells for the tests of this folder: `small_plan DIR` writes DIR/plan.toml.
small_plan() {
    cat > "$1/plan.toml" <<TOML
batch = 2
[images]
dir = "datasets/imagenet-samples"
limit = 4
[[model]]
name = "cifar_resnet20"
weights = "random:3"
[[quantize]]
method = "uniform"
scheme = "symmetric"
bits = [3, 4, 5, 6, 8, 12]
granularity = ["per-tensor", "per-channel"]
[[quantize]]
method = "uniform"
scheme = "asymmetric"
bits = [3, 4, 5, 6, 8, 12]
granularity = ["per-tensor", "per-channel"]
[studies]
isolated = true
TOML
}

# `same_tables A B`: every table of two run directories, byte for byte.
same_tables() {
    local table
    for table in "$1"/*.parquet; do
        cmp "$table" "$2/$(basename "$table")" || return 1
    done
    [ "$(ls "$1"/*.parquet | wc -l)" = "$(ls "$2"/*.parquet | wc -l)" ]
}
