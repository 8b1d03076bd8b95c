// Bench is a module of its own, so that what it compares OpenLeash with stays
// out of the product's dependencies.
module github.com/openleash/openleash-go/bench

go 1.26.2
