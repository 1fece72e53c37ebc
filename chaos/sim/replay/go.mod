module holdfast/chaos/sim/replay

go 1.26

require github.com/tetratelabs/wazero v1.9.0
