// A handful of instructions that both processors of Kubernetes nodes have, so that the plugin's executable is written once.
// Everything is 64 bits wide; comparisons of `below` are unsigned. What is not needed is absent.

/** Kept over system calls. `result` holds what the last one gave back. */
export type Register = 'a' | 'b' | 'c' | 'd' | 'e' | 'f' | 'result';

/** An address: a label of the code or of the data, and a distance from it. */
export interface Place {
  readonly label: string;
  readonly plus?: number;
}

/** A number must fit in 32 bits with sign. */
export type Operand = Register | number | Place;

export type Condition = 'equal' | 'notEqual' | 'below';

export type SystemCall =
  | 'read'
  | 'write'
  | 'socket'
  | 'connect'
  | 'sendto'
  | 'shutdown'
  | 'setsockopt'
  | 'execve'
  | 'exit_group';

export interface Machine {
  label(name: string): void;
  /** At the start of a process it points to argc, the arguments and the environment. */
  stackPointer(into: Register): void;
  set(into: Register, value: Operand): void;
  load(into: Register, base: Register, offset?: number): void;
  loadByte(into: Register, base: Register, offset?: number): void;
  storeByte(from: Register, base: Register): void;
  add(into: Register, value: Register | number): void;
  subtract(into: Register, value: Register): void;
  /** At most six arguments. The result is negative on failure: minus errno. */
  call(what: SystemCall, ...args: readonly Operand[]): void;
  jump(to: string): void;
  jumpIf(left: Register, condition: Condition, right: Register | number, to: string): void;
  jumpIfNegative(register: Register, to: string): void;
}
