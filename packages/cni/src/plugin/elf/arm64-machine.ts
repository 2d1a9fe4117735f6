// The instructions of machine.ts for arm64. Arm ARM (DDI 0487) chapter C6; system calls: number in x8, arguments in x0 to x5,
// result in x0, everything else kept.
import type { CodeBuffer } from './code-buffer.ts';
import type { Condition, Machine, Operand, Place, Register, SystemCall } from './machine.ts';

/** x6 for the result: x0 would be overwritten by the first argument of the next call. */
const NUMBER: Readonly<Record<Register, number>> = { a: 19, b: 20, c: 21, d: 22, e: 23, f: 24, result: 6 };
const SCRATCH = 9;
const CALL_NUMBER = 8;
/** The zero register, or the stack pointer where an instruction takes that. */
const ZERO_OR_SP = 31;

/** include/uapi/asm-generic/unistd.h */
const SYSTEM_CALL: Readonly<Record<SystemCall, number>> = {
  read: 63,
  write: 64,
  exit_group: 94,
  socket: 198,
  connect: 203,
  sendto: 206,
  setsockopt: 208,
  shutdown: 210,
  execve: 221,
};

const CONDITION: Readonly<Record<Condition | 'negative', number>> = { equal: 0, notEqual: 1, below: 3, negative: 4 };

const MOVZ = 0xd2800000;
const MOVN = 0x92800000;
const MOVK_HIGH = 0xf2a00000;
const MAX_IMMEDIATE = 0xfff;

export class Arm64Machine implements Machine {
  readonly #code: CodeBuffer;

  constructor(code: CodeBuffer) {
    this.#code = code;
  }

  label(name: string): void {
    this.#code.label(name);
  }

  stackPointer(into: Register): void {
    this.#code.put32(0x91000000 | (ZERO_OR_SP << 5) | NUMBER[into]); // add xd, sp, #0
  }

  set(into: Register, value: Operand): void {
    this.#set(NUMBER[into], value);
  }

  load(into: Register, base: Register, offset = 0): void {
    this.#code.put32(0xf9400000 | ((offset / 8) << 10) | (NUMBER[base] << 5) | NUMBER[into]);
  }

  loadByte(into: Register, base: Register, offset = 0): void {
    this.#code.put32(0x39400000 | (offset << 10) | (NUMBER[base] << 5) | NUMBER[into]);
  }

  storeByte(from: Register, base: Register): void {
    this.#code.put32(0x39000000 | (NUMBER[base] << 5) | NUMBER[from]);
  }

  add(into: Register, value: Register | number): void {
    const register = NUMBER[into];
    if (typeof value === 'number' && value >= 0 && value <= MAX_IMMEDIATE) {
      this.#code.put32(0x91000000 | (value << 10) | (register << 5) | register);
    } else {
      this.#code.put32(0x8b000000 | (this.#inRegister(value) << 16) | (register << 5) | register);
    }
  }

  subtract(into: Register, value: Register): void {
    this.#code.put32(0xcb000000 | (NUMBER[value] << 16) | (NUMBER[into] << 5) | NUMBER[into]);
  }

  call(what: SystemCall, ...args: readonly Operand[]): void {
    for (const [i, value] of args.entries()) this.#set(i, value);
    this.#set(CALL_NUMBER, SYSTEM_CALL[what]);
    this.#code.put32(0xd4000001); // svc #0
    this.#move(NUMBER.result, 0);
  }

  jump(to: string): void {
    this.#code.await(to, 0, (bytes, at, address, here) =>
      bytes.setUint32(at, 0x14000000 | (((address - here) / 4) & 0x3ffffff), true),
    );
    this.#code.put32(0);
  }

  jumpIf(left: Register, condition: Condition, right: Register | number, to: string): void {
    this.#compare(NUMBER[left], this.#inRegister(right));
    this.#branch(CONDITION[condition], to);
  }

  jumpIfNegative(register: Register, to: string): void {
    this.#compare(NUMBER[register], ZERO_OR_SP);
    this.#branch(CONDITION.negative, to);
  }

  #compare(left: number, right: number): void {
    this.#code.put32(0xeb000000 | (right << 16) | (left << 5) | ZERO_OR_SP);
  }

  #branch(condition: number, to: string): void {
    this.#code.await(to, 0, (bytes, at, address, here) =>
      bytes.setUint32(at, 0x54000000 | ((((address - here) / 4) & 0x7ffff) << 5) | condition, true),
    );
    this.#code.put32(0);
  }

  #inRegister(value: Register | number): number {
    if (typeof value === 'string') return NUMBER[value];
    this.#set(SCRATCH, value);
    return SCRATCH;
  }

  #move(into: number, from: number): void {
    this.#code.put32(0xaa000000 | (from << 16) | (ZERO_OR_SP << 5) | into); // orr xd, xzr, xm
  }

  #set(into: number, value: Operand): void {
    if (typeof value === 'string') this.#move(into, NUMBER[value]);
    else if (typeof value === 'object') this.#setAddress(into, value);
    else if (value < 0) this.#code.put32(MOVN | ((~value & 0xffff) << 5) | into);
    else {
      this.#code.put32(MOVZ | ((value & 0xffff) << 5) | into);
      if (value > 0xffff) this.#code.put32(MOVK_HIGH | ((value >>> 16) << 5) | into);
    }
  }

  #setAddress(into: number, { label, plus = 0 }: Place): void {
    this.#code.await(label, plus, (bytes, at, address) => {
      bytes.setUint32(at, MOVZ | ((address & 0xffff) << 5) | into, true);
      bytes.setUint32(at + 4, MOVK_HIGH | ((address >>> 16) << 5) | into, true);
    });
    this.#code.put32(0);
    this.#code.put32(0);
  }
}
