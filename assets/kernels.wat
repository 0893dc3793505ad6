;; What "zstui calibrate" times: small loops that each lean on one part of a processor. Each takes its number of rounds and
;; returns a value that depends on all of them, so that no compiler can leave any out.
(module
  (memory 64)

  ;; Multiplications, rotations and exclusive-ors, each needing the one before.
  (func (export "integer") (param $n i32) (result i32) (local $x i64)
    (local.set $x (i64.const 88172645463325252))
    (loop $l
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 12))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 25))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 27))))
      (local.set $x (i64.rotl (i64.mul (local.get $x) (i64.const 2685821657736338717)) (i64.const 7)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $l (local.get $n)))
    (i32.wrap_i64 (local.get $x)))

  ;; The logistic map, with a square root and a division in each round.
  (func (export "float") (param $n i32) (result f64) (local $x f64) (local $sum f64)
    (local.set $x (f64.const 0.3))
    (loop $l
      (local.set $x (f64.mul (f64.mul (f64.const 3.9) (local.get $x)) (f64.sub (f64.const 1) (local.get $x))))
      (local.set $sum (f64.add (local.get $sum) (f64.div (f64.sqrt (local.get $x)) (f64.add (local.get $x) (f64.const 1)))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $l (local.get $n)))
    (local.get $sum))

  ;; Reads and writes all over 4 MiB, in an order that no prefetcher guesses.
  (func (export "memory") (param $n i32) (result i32) (local $at i32) (local $sum i32)
    (loop $l
      (local.set $at (i32.add (i32.mul (local.get $at) (i32.const 1664525)) (i32.const 1013904223)))
      (local.set $sum (i32.add (local.get $sum) (i32.load (i32.and (local.get $at) (i32.const 0x3ffffc)))))
      (i32.store (i32.and (i32.shr_u (local.get $at) (i32.const 7)) (i32.const 0x3ffffc)) (local.get $sum))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $l (local.get $n)))
    (local.get $sum))

  ;; Lengths of the Collatz sequences of the numbers up to n: branches that depend on data.
  (func (export "branches") (param $n i32) (result i32) (local $x i64) (local $steps i32)
    (loop $l
      (local.set $x (i64.extend_i32_u (local.get $n)))
      (block $done
        (loop $s
          (br_if $done (i64.le_u (local.get $x) (i64.const 1)))
          (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
          (if (i64.eqz (i64.and (local.get $x) (i64.const 1)))
            (then (local.set $x (i64.shr_u (local.get $x) (i64.const 1))))
            (else (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 3)) (i64.const 1)))))
          (br $s)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $l (local.get $n)))
    (local.get $steps)))
