module yeoul.example/pocketbase

go 1.25.0

// What PocketBase needs, in which versions and with which sums, is said by its own go.mod and go.sum (bench/rivals.py).
require github.com/pocketbase/pocketbase v0.36.8
