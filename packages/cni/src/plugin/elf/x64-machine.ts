// The instructions of machine.ts for x86-64, in their longest forms: uniform rather than short. Every instruction on
// registers has a REX prefix, so that bytes of rbp and the like are addressed. Intel SDM volume 2; system calls by the System V
// ABI: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9; rcx and r11 are lost.
import type { CodeBuffer } from './code-buffer.ts';
import type { Condition, Machine, Operand, Register, SystemCall } from './machine.ts';

/** Numbers of registers: rbx, rbp, r12 to r15, rax. */
const NUMBER: Readonly<Record<Register, number>> = { a: 3, b: 5, c: 12, d: 13, e: 14, f: 15, result: 0 };
const RSP = 4;
/** rdi, rsi, rdx, r10, r8, r9. */
const ARGUMENTS = [7, 6, 2, 10, 8, 9];

/** arch/x86/entry/syscalls/syscall_64.tbl */
const SYSTEM_CALL: Readonly<Record<SystemCall, number>> = {
  read: 0,
  write: 1,
  socket: 41,
  connect: 42,
  sendto: 44,
  shutdown: 48,
  setsockopt: 54,
  execve: 59,
  exit_group: 231,
};

/** Second byte of the near conditional jump. */
const JUMP: Readonly<Record<Condition | 'negative', number>> = {
  below: 0x82,
  equal: 0x84,
  notEqual: 0x85,
  negative: 0x88,
};

export class X64Machine implements Machine {
  readonly #code: CodeBuffer;

  constructor(code: CodeBuffer) {
    this.#code = code;
  }

  label(name: string): void {
    this.#code.label(name);
  }

  stackPointer(into: Register): void {
    this.#registers([0x89], RSP, NUMBER[into]);
  }

  set(into: Register, value: Operand): void {
    this.#set(NUMBER[into], value);
  }

  load(into: Register, base: Register, offset = 0): void {
    this.#memory([0x8b], NUMBER[into], NUMBER[base], offset);
  }

  loadByte(into: Register, base: Register, offset = 0): void {
    this.#memory([0x0f, 0xb6], NUMBER[into], NUMBER[base], offset);
  }

  storeByte(from: Register, base: Register): void {
    this.#memory([0x88], NUMBER[from], NUMBER[base], 0);
  }

  add(into: Register, value: Register | number): void {
    if (typeof value === 'number') this.#immediate(0, NUMBER[into], value);
    else this.#registers([0x01], NUMBER[value], NUMBER[into]);
  }

  subtract(into: Register, value: Register): void {
    this.#registers([0x29], NUMBER[value], NUMBER[into]);
  }

  call(what: SystemCall, ...args: readonly Operand[]): void {
    // Arguments are set before rax, since the last result may be one of them.
    for (const [i, register] of ARGUMENTS.entries()) {
      const value = args[i];
      if (value !== undefined) this.#set(register, value);
    }
    this.#code.put(0xb8); // mov eax, imm32
    this.#code.put32(SYSTEM_CALL[what]);
    this.#code.put(0x0f, 0x05); // syscall
  }

  jump(to: string): void {
    this.#branch([0xe9], to);
  }

  jumpIf(left: Register, condition: Condition, right: Register | number, to: string): void {
    if (typeof right === 'number') this.#immediate(7, NUMBER[left], right);
    else this.#registers([0x39], NUMBER[right], NUMBER[left]);
    this.#branch([0x0f, JUMP[condition]], to);
  }

  jumpIfNegative(register: Register, to: string): void {
    this.#registers([0x85], NUMBER[register], NUMBER[register]); // test
    this.#branch([0x0f, JUMP.negative], to);
  }

  #set(into: number, value: Operand): void {
    if (typeof value === 'string') {
      this.#registers([0x89], NUMBER[value], into);
      return;
    }
    if (typeof value !== 'number') {
      this.#code.await(value.label, value.plus ?? 0, (bytes, at, address) => bytes.setInt32(at + 3, address, true));
    }
    this.#code.put(rex(0, into), 0xc7, 0xc0 | (into & 7)); // mov r/m64, imm32 with sign
    this.#code.put32(typeof value === 'number' ? value : 0);
  }

  /** Group 81: `digit` 0 adds, 7 compares. */
  #immediate(digit: number, register: number, value: number): void {
    this.#code.put(rex(0, register), 0x81, 0xc0 | (digit << 3) | (register & 7));
    this.#code.put32(value);
  }

  #registers(opcode: readonly number[], reg: number, rm: number): void {
    this.#code.put(rex(reg, rm), ...opcode, 0xc0 | ((reg & 7) << 3) | (rm & 7));
  }

  /** [base + disp32]; rsp and r12 as a base need the SIB byte. */
  #memory(opcode: readonly number[], reg: number, base: number, offset: number): void {
    this.#code.put(rex(reg, base), ...opcode, 0x80 | ((reg & 7) << 3) | (base & 7));
    if ((base & 7) === RSP) this.#code.put(0x24);
    this.#code.put32(offset);
  }

  #branch(opcode: readonly number[], to: string): void {
    const displacement = opcode.length;
    this.#code.await(to, 0, (bytes, at, address, here) =>
      bytes.setInt32(at + displacement, address - (here + displacement + 4), true),
    );
    this.#code.put(...opcode);
    this.#code.put32(0);
  }
}

/** W for 64 bits, R and B for the registers from r8 on. */
function rex(reg: number, rm: number): number {
  return 0x48 | (reg >= 8 ? 4 : 0) | (rm >= 8 ? 1 : 0);
}
