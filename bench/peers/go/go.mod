module fdsplice/bench/peers/go

go 1.21
