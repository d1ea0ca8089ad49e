;; SHA-256 (FIPS 180-4) of a text in UTF-8.
(module
  (;include text.wat;)

  ;; Memory: 64 the answer, 256 K, 512 the state H, 576 the message schedule W (64 words).
  (data (i32.const 64) "{\"sha256\":\"")
  ;; K: the first 32 bits of the fractions of the cube roots of the first 64 primes, low byte first.
  (data (i32.const 256)
    "\98\2f\8a\42\91\44\37\71\cf\fb\c0\b5\a5\db\b5\e9\5b\c2\56\39\f1\11\f1\59\a4\82\3f\92\d5\5e\1c\ab"
    "\98\aa\07\d8\01\5b\83\12\be\85\31\24\c3\7d\0c\55\74\5d\be\72\fe\b1\de\80\a7\06\dc\9b\74\f1\9b\c1"
    "\c1\69\9b\e4\86\47\be\ef\c6\9d\c1\0f\cc\a1\0c\24\6f\2c\e9\2d\aa\84\74\4a\dc\a9\b0\5c\da\88\f9\76"
    "\52\51\3e\98\6d\c6\31\a8\c8\27\03\b0\c7\7f\59\bf\f3\0b\e0\c6\47\91\a7\d5\51\63\ca\06\67\29\29\14"
    "\85\0a\b7\27\38\21\1b\2e\fc\6d\2c\4d\13\0d\38\53\54\73\0a\65\bb\0a\6a\76\2e\c9\c2\81\85\2c\72\92"
    "\a1\e8\bf\a2\4b\66\1a\a8\70\8b\4b\c2\a3\51\6c\c7\19\e8\92\d1\24\06\99\d6\85\35\0e\f4\70\a0\6a\10"
    "\16\c1\a4\19\08\6c\37\1e\4c\77\48\27\b5\bc\b0\34\b3\0c\1c\39\4a\aa\d8\4e\4f\ca\9c\5b\f3\6f\2e\68"
    "\ee\82\8f\74\6f\63\a5\78\14\78\c8\84\08\02\c7\8c\fa\ff\be\90\eb\6c\50\a4\f7\a3\f9\be\f2\78\71\c6")
  ;; H: the same of the square roots of the first 8 primes.
  (data (i32.const 512)
    "\67\e6\09\6a\85\ae\67\bb\72\f3\6e\3c\3a\f5\4f\a5\7f\52\0e\51\8c\68\05\9b\ab\d9\83\1f\19\cd\e0\5b")

  ;; The 32-bit word at `at`, high byte first.
  (func $load_big (param $at i32) (result i32)
    (i32.or
      (i32.or
        (i32.shl (i32.load8_u (local.get $at)) (i32.const 24))
        (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16)))
      (i32.or
        (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8))
        (i32.load8_u offset=3 (local.get $at)))))

  (func $store_big (param $at i32) (param $word i32)
    (i32.store8 (local.get $at) (i32.shr_u (local.get $word) (i32.const 24)))
    (i32.store8 offset=1 (local.get $at) (i32.shr_u (local.get $word) (i32.const 16)))
    (i32.store8 offset=2 (local.get $at) (i32.shr_u (local.get $word) (i32.const 8)))
    (i32.store8 offset=3 (local.get $at) (local.get $word)))

  ;; The three-fold rotation that both upper sigmas are.
  (func $rotations (param $x i32) (param $a i32) (param $b i32) (param $c i32) (result i32)
    (i32.xor
      (i32.rotr (local.get $x) (local.get $a))
      (i32.xor (i32.rotr (local.get $x) (local.get $b)) (i32.rotr (local.get $x) (local.get $c)))))

  ;; Two rotations and a shift: both lower sigmas.
  (func $mixed (param $x i32) (param $a i32) (param $b i32) (param $shift i32) (result i32)
    (i32.xor
      (i32.rotr (local.get $x) (local.get $a))
      (i32.xor (i32.rotr (local.get $x) (local.get $b)) (i32.shr_u (local.get $x) (local.get $shift)))))

  ;; Word `t` of the message schedule: an address.
  (func $w (param $t i32) (result i32)
    (i32.add (i32.const 576) (i32.shl (local.get $t) (i32.const 2))))

  (func $schedule (param $block i32)
    (local $t i32)
    (loop $given
      (i32.store (call $w (local.get $t))
        (call $load_big (i32.add (local.get $block) (i32.shl (local.get $t) (i32.const 2)))))
      (local.set $t (i32.add (local.get $t) (i32.const 1)))
      (br_if $given (i32.lt_u (local.get $t) (i32.const 16))))
    (loop $derived
      (i32.store (call $w (local.get $t))
        (i32.add
          (i32.add
            (call $mixed (i32.load (call $w (i32.sub (local.get $t) (i32.const 2))))
              (i32.const 17) (i32.const 19) (i32.const 10))
            (i32.load (call $w (i32.sub (local.get $t) (i32.const 7)))))
          (i32.add
            (call $mixed (i32.load (call $w (i32.sub (local.get $t) (i32.const 15))))
              (i32.const 7) (i32.const 18) (i32.const 3))
            (i32.load (call $w (i32.sub (local.get $t) (i32.const 16)))))))
      (local.set $t (i32.add (local.get $t) (i32.const 1)))
      (br_if $derived (i32.lt_u (local.get $t) (i32.const 64)))))

  ;; Add `word` to word `i` of the state.
  (func $add_to_state (param $i i32) (param $word i32)
    (local $at i32)
    (local.set $at (i32.add (i32.const 512) (i32.shl (local.get $i) (i32.const 2))))
    (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (local.get $word))))

  (func $compress (param $block i32)
    (local $a i32) (local $b i32) (local $c i32) (local $d i32)
    (local $e i32) (local $f i32) (local $g i32) (local $h i32)
    (local $t i32) (local $t1 i32) (local $t2 i32)
    (call $schedule (local.get $block))
    (local.set $a (i32.load (i32.const 512)))
    (local.set $b (i32.load (i32.const 516)))
    (local.set $c (i32.load (i32.const 520)))
    (local.set $d (i32.load (i32.const 524)))
    (local.set $e (i32.load (i32.const 528)))
    (local.set $f (i32.load (i32.const 532)))
    (local.set $g (i32.load (i32.const 536)))
    (local.set $h (i32.load (i32.const 540)))
    (loop $round
      (local.set $t1
        (i32.add
          (i32.add
            (i32.add (local.get $h)
              (call $rotations (local.get $e) (i32.const 6) (i32.const 11) (i32.const 25)))
            (i32.xor
              (i32.and (local.get $e) (local.get $f))
              (i32.and (i32.xor (local.get $e) (i32.const -1)) (local.get $g))))
          (i32.add
            (i32.load (i32.add (i32.const 256) (i32.shl (local.get $t) (i32.const 2))))
            (i32.load (call $w (local.get $t))))))
      (local.set $t2
        (i32.add
          (call $rotations (local.get $a) (i32.const 2) (i32.const 13) (i32.const 22))
          (i32.xor
            (i32.and (local.get $a) (local.get $b))
            (i32.xor
              (i32.and (local.get $a) (local.get $c))
              (i32.and (local.get $b) (local.get $c))))))
      (local.set $h (local.get $g))
      (local.set $g (local.get $f))
      (local.set $f (local.get $e))
      (local.set $e (i32.add (local.get $d) (local.get $t1)))
      (local.set $d (local.get $c))
      (local.set $c (local.get $b))
      (local.set $b (local.get $a))
      (local.set $a (i32.add (local.get $t1) (local.get $t2)))
      (local.set $t (i32.add (local.get $t) (i32.const 1)))
      (br_if $round (i32.lt_u (local.get $t) (i32.const 64))))
    (call $add_to_state (i32.const 0) (local.get $a))
    (call $add_to_state (i32.const 1) (local.get $b))
    (call $add_to_state (i32.const 2) (local.get $c))
    (call $add_to_state (i32.const 3) (local.get $d))
    (call $add_to_state (i32.const 4) (local.get $e))
    (call $add_to_state (i32.const 5) (local.get $f))
    (call $add_to_state (i32.const 6) (local.get $g))
    (call $add_to_state (i32.const 7) (local.get $h)))

  ;; Pad the text of `length` bytes in place: a one bit, zeros, the length in bits; the padded length.
  (func $pad (param $length i32) (result i32)
    (local $whole i32) (local $end i32)
    (local.set $whole (i32.and (i32.add (local.get $length) (i32.const 72)) (i32.const -64)))
    ;; Behind the text lies at least the 32 KiB of room that reading left, with bytes of the raw input in it.
    (local.set $end (i32.add (global.get $INPUT) (local.get $length)))
    (memory.fill (local.get $end) (i32.const 0) (i32.sub (local.get $whole) (local.get $length)))
    (i32.store8 (local.get $end) (i32.const 0x80))
    (local.set $end (i32.sub (i32.add (global.get $INPUT) (local.get $whole)) (i32.const 8)))
    (call $store_big (local.get $end) (i32.shr_u (local.get $length) (i32.const 29)))
    (call $store_big (i32.add (local.get $end) (i32.const 4)) (i32.shl (local.get $length) (i32.const 3)))
    (local.get $whole))

  ;; Write the state in hexadecimal behind the answer's beginning, from 75 to 139.
  (func $say_state
    (local $nibble i32) (local $i i32)
    (loop $more
      (local.set $nibble
        (i32.and
          (i32.shr_u
            (i32.load (i32.add (i32.const 512) (i32.shl (i32.shr_u (local.get $i) (i32.const 3)) (i32.const 2))))
            (i32.shl (i32.sub (i32.const 7) (i32.and (local.get $i) (i32.const 7))) (i32.const 2)))
          (i32.const 15)))
      (i32.store8
        (i32.add (i32.const 75) (local.get $i))
        (i32.add
          (local.get $nibble)
          (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $nibble) (i32.const 9)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $i) (i32.const 64))))
    (i32.store16 (i32.const 139) (i32.const 0x7d22)))           ;; a quote and a closing brace

  (func (export "_start")
    (local $at i32) (local $end i32)
    (local.set $end (i32.add (global.get $INPUT) (call $pad (call $read_text))))
    (local.set $at (global.get $INPUT))
    (loop $more
      (call $compress (local.get $at))
      (local.set $at (i32.add (local.get $at) (i32.const 64)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end))))
    (call $say_state)
    (call $write (i32.const 1) (i32.const 64) (i32.const 77))))
