  ;; What the example skills share: streams, and the one input they take, {"text": "..."}.
  ;; build.py puts this file where a skill says (;include text.wat;).
  ;;
  ;; Memory: 0-63 scratch for WASI, 64-4095 data of the skill, from $INPUT on the input as it was read. The decoded text
  ;; is written over the raw one: decoding never makes it longer, so the write mark never passes the read mark.

  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (memory (export "memory") 2)
  (global $INPUT i32 (i32.const 65536))
  (global $at (mut i32) (i32.const 0))         ;; the read mark
  (global $end (mut i32) (i32.const 0))        ;; just behind the last byte of the input
  (data (i32.const 0x0f00) "the input is not {\"text\": \"...\"}\n")

  ;; Write `length` bytes at `start` to the stream `fd`, in as many writes as it takes.
  (func $write (param $fd i32) (param $start i32) (param $length i32)
    (local $written i32)
    (loop $more
      (if (i32.eqz (local.get $length)) (then (return)))
      (i32.store (i32.const 0) (local.get $start))
      (i32.store (i32.const 4) (local.get $length))
      (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $proc_exit (i32.const 74))))
      (local.set $written (i32.load (i32.const 8)))
      (local.set $start (i32.add (local.get $start) (local.get $written)))
      (local.set $length (i32.sub (local.get $length) (local.get $written)))
      (br $more)))

  ;; Read stdin to its end, growing the memory by 64 KiB whenever less than 32 KiB of room is left.
  (func $read_input
    (local $room i32)
    (global.set $at (global.get $INPUT))
    (global.set $end (global.get $INPUT))
    (loop $more
      (local.set $room (i32.sub (i32.shl (memory.size) (i32.const 16)) (global.get $end)))
      (if (i32.lt_u (local.get $room) (i32.const 32768))
        (then
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
          (br $more)))
      (i32.store (i32.const 0) (global.get $end))
      (i32.store (i32.const 4) (local.get $room))
      (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))
        (then (call $proc_exit (i32.const 74))))
      (global.set $end (i32.add (global.get $end) (i32.load (i32.const 8))))
      (br_if $more (i32.load (i32.const 8)))))

  ;; Say what is wrong with the input and end with exit code 2.
  (func $refuse
    (call $write (i32.const 2) (i32.const 0x0f00) (i32.const 32))
    (call $proc_exit (i32.const 2))
    (unreachable))

  ;; The next byte of the input, which there must be.
  (func $byte (result i32)
    (if (i32.ge_u (global.get $at) (global.get $end)) (then (call $refuse)))
    (i32.load8_u (global.get $at))
    (global.set $at (i32.add (global.get $at) (i32.const 1))))

  ;; The next byte that is not white space.
  (func $token (result i32)
    (local $byte i32)
    (loop $blank
      (local.set $byte (call $byte))
      (br_if $blank (i32.eq (local.get $byte) (i32.const 32)))
      (br_if $blank (i32.eq (local.get $byte) (i32.const 9)))
      (br_if $blank (i32.eq (local.get $byte) (i32.const 10)))
      (br_if $blank (i32.eq (local.get $byte) (i32.const 13))))
    (local.get $byte))

  (func $demand (param $byte i32) (param $wanted i32)
    (if (i32.ne (local.get $byte) (local.get $wanted)) (then (call $refuse))))

  ;; The value of four hexadecimal digits.
  (func $hex4 (result i32)
    (local $value i32) (local $digit i32) (local $count i32)
    (loop $more
      (local.set $digit (i32.sub (call $byte) (i32.const 48)))
      (if (i32.gt_u (local.get $digit) (i32.const 9))
        (then
          ;; 'A' to 'F' and 'a' to 'f' differ in one bit; 'a' - '0' is 49.
          (local.set $digit
            (i32.sub (i32.or (i32.add (local.get $digit) (i32.const 48)) (i32.const 32)) (i32.const 87)))
          (if (i32.lt_u (local.get $digit) (i32.const 10)) (then (call $refuse)))
          (if (i32.gt_u (local.get $digit) (i32.const 15)) (then (call $refuse)))))
      (local.set $value (i32.or (i32.shl (local.get $value) (i32.const 4)) (local.get $digit)))
      (local.set $count (i32.add (local.get $count) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $count) (i32.const 4))))
    (local.get $value))

  ;; The code point behind \u, two escapes for one beyond U+FFFF. Half a pair is refused: it has no UTF-8.
  (func $escaped_point (result i32)
    (local $high i32) (local $low i32)
    (local.set $high (call $hex4))
    (if (i32.ne (i32.and (local.get $high) (i32.const 0xf800)) (i32.const 0xd800))
      (then (return (local.get $high))))
    (if (i32.ge_u (local.get $high) (i32.const 0xdc00)) (then (call $refuse)))
    (call $demand (call $byte) (i32.const 92))
    (call $demand (call $byte) (i32.const 117))
    (local.set $low (call $hex4))
    (if (i32.ne (i32.and (local.get $low) (i32.const 0xfc00)) (i32.const 0xdc00)) (then (call $refuse)))
    (i32.add
      (i32.const 0x10000)
      (i32.or
        (i32.shl (i32.and (local.get $high) (i32.const 0x3ff)) (i32.const 10))
        (i32.and (local.get $low) (i32.const 0x3ff)))))

  ;; One byte of UTF-8 that continues a character: six bits of `point` from `shift` on.
  (func $continuation (param $point i32) (param $shift i32) (result i32)
    (i32.or
      (i32.const 0x80)
      (i32.and (i32.shr_u (local.get $point) (local.get $shift)) (i32.const 0x3f))))

  ;; Write `point` as UTF-8 at `to`; the place behind it.
  (func $put (param $to i32) (param $point i32) (result i32)
    (if (i32.lt_u (local.get $point) (i32.const 0x80))
      (then
        (i32.store8 (local.get $to) (local.get $point))
        (return (i32.add (local.get $to) (i32.const 1)))))
    (if (i32.lt_u (local.get $point) (i32.const 0x800))
      (then
        (i32.store8 (local.get $to) (i32.or (i32.const 0xc0) (i32.shr_u (local.get $point) (i32.const 6))))
        (i32.store8 offset=1 (local.get $to) (call $continuation (local.get $point) (i32.const 0)))
        (return (i32.add (local.get $to) (i32.const 2)))))
    (if (i32.lt_u (local.get $point) (i32.const 0x10000))
      (then
        (i32.store8 (local.get $to) (i32.or (i32.const 0xe0) (i32.shr_u (local.get $point) (i32.const 12))))
        (i32.store8 offset=1 (local.get $to) (call $continuation (local.get $point) (i32.const 6)))
        (i32.store8 offset=2 (local.get $to) (call $continuation (local.get $point) (i32.const 0)))
        (return (i32.add (local.get $to) (i32.const 3)))))
    (i32.store8 (local.get $to) (i32.or (i32.const 0xf0) (i32.shr_u (local.get $point) (i32.const 18))))
    (i32.store8 offset=1 (local.get $to) (call $continuation (local.get $point) (i32.const 12)))
    (i32.store8 offset=2 (local.get $to) (call $continuation (local.get $point) (i32.const 6)))
    (i32.store8 offset=3 (local.get $to) (call $continuation (local.get $point) (i32.const 0)))
    (i32.add (local.get $to) (i32.const 4)))

  ;; The code point that a backslash and `letter` stand for.
  (func $escape (param $letter i32) (result i32)
    (if (i32.eq (local.get $letter) (i32.const 110)) (then (return (i32.const 10))))     ;; n
    (if (i32.eq (local.get $letter) (i32.const 116)) (then (return (i32.const 9))))      ;; t
    (if (i32.eq (local.get $letter) (i32.const 114)) (then (return (i32.const 13))))     ;; r
    (if (i32.eq (local.get $letter) (i32.const 98)) (then (return (i32.const 8))))       ;; b
    (if (i32.eq (local.get $letter) (i32.const 102)) (then (return (i32.const 12))))     ;; f
    (if (i32.eq (local.get $letter) (i32.const 117)) (then (return (call $escaped_point)))) ;; u
    (if (i32.eqz
          (i32.or
            (i32.eq (local.get $letter) (i32.const 34))
            (i32.or (i32.eq (local.get $letter) (i32.const 92)) (i32.eq (local.get $letter) (i32.const 47)))))
      (then (call $refuse)))
    (local.get $letter))

  ;; The string whose opening quote was just read, decoded in place at $INPUT; its length in bytes.
  (func $string (result i32)
    (local $to i32) (local $byte i32)
    (local.set $to (global.get $INPUT))
    (block $closed
      (loop $more
        (local.set $byte (call $byte))
        (br_if $closed (i32.eq (local.get $byte) (i32.const 34)))
        (if (i32.lt_u (local.get $byte) (i32.const 32)) (then (call $refuse)))
        (if (i32.eq (local.get $byte) (i32.const 92))
          (then (local.set $to (call $put (local.get $to) (call $escape (call $byte)))))
          (else
            (i32.store8 (local.get $to) (local.get $byte))
            (local.set $to (i32.add (local.get $to) (i32.const 1)))))
        (br $more)))
    (i32.sub (local.get $to) (global.get $INPUT)))

  ;; Only white space may stand behind the input's object.
  (func $nothing_follows
    (loop $more
      (if (i32.ge_u (global.get $at) (global.get $end)) (then (return)))
      (if (i32.gt_u (call $byte) (i32.const 32)) (then (call $refuse)))
      (br $more)))

  ;; Read the whole input and leave its text at $INPUT; the length in bytes. Ends the skill if it is anything else.
  (func $read_text (result i32)
    (local $length i32)
    (call $read_input)
    (call $demand (call $token) (i32.const 123))                ;; {
    (call $demand (call $token) (i32.const 34))
    (call $demand (call $byte) (i32.const 116))                 ;; text
    (call $demand (call $byte) (i32.const 101))
    (call $demand (call $byte) (i32.const 120))
    (call $demand (call $byte) (i32.const 116))
    (call $demand (call $byte) (i32.const 34))
    (call $demand (call $token) (i32.const 58))                 ;; :
    (call $demand (call $token) (i32.const 34))
    (local.set $length (call $string))
    (call $demand (call $token) (i32.const 125))                ;; }
    (call $nothing_follows)
    (local.get $length))
