let pending = 0;
let timer: NodeJS.Timeout | undefined;

/** A pending transfer keeps the process alive, as a socket would; until {@link letProcessEnd}. */
export function keepProcessAlive(): void {
  timer ??= setInterval(() => {}, 2 ** 31 - 1);
  pending += 1;
  if (pending === 1) timer.ref();
}

export function letProcessEnd(): void {
  pending -= 1;
  if (pending === 0) timer?.unref();
}
