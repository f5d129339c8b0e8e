// The size of an open file, as far as it says something about the contents. The core has the same table
// (crates/fdsplice/src/fd/pseudo.rs); this one serves files that Node opens, and processes without a core.
import { read as readIn, type Stats, statfs as statfsOf } from 'node:fs';
import { promisify } from 'node:util';

/** The types of file systems whose files are made by the kernel when they are read (`statfs(2)`, `linux/magic.h`). */
const TYPES = new Set([
  0x9fa0, // procfs
  0x62656572, // sysfs
  0x27e0eb, // cgroup
  0x63677270, // cgroup2
  0x64626720, // debugfs
  0x74726163, // tracefs
  0x73636673, // securityfs
  0xf97cff8c, // selinuxfs
  0x43415d53, // smackfs
  0x5a3c69f0, // apparmorfs
  0xcafe4a11, // bpffs
  0x62656570, // configfs
  0xde5e81e4, // efivarfs
  0x6165676c, // pstore
  0x42494e4d, // binfmt_misc
  0x07655821, // resctrl
  0x65735543, // fusectl
  0x6e736673, // nsfs
  0x1cd1, // devpts
  0x19800202, // mqueue
  0x67596969, // rpc_pipefs
  0x6e667364, // nfsd
  0xabba1974, // xenfs
  0x9fa1, // openpromfs
]);

const FUSE = 0x65735546;

const read = promisify(readIn);
const statfs = promisify(statfsOf);

/** The size of an open file in bytes; 0 if it is not known, so that the file is read to its end. */
export async function sizeOfOpened(fd: number, stat: Stats): Promise<number> {
  if (isBelievable(stat)) return stat.size;
  // Without procfs, through which the file system is found, every size is believed.
  const type = await statfs(pathOf(fd)).then(
    (found) => found.type >>> 0,
    () => 0,
  );
  const isTrue = type === FUSE ? await willEndAt(fd, stat.size) : !TYPES.has(type);
  return isTrue ? stat.size : 0;
}

/** None of these file systems is on a device, so most files cost no second call. Bits 8 to 19 hold the major number. */
function isBelievable({ dev, size }: Stats): boolean {
  return size === 0 || ((dev >>> 8) & 0xfff) !== 0 || process.platform !== 'linux';
}

function pathOf(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/** Whether the contents of a file end where its size says. With direct I/O, FUSE reads what its server returns. */
async function willEndAt(fd: number, size: number): Promise<boolean> {
  const byte = Buffer.allocUnsafe(1);
  try {
    const last = await read(fd, byte, 0, 1, size - 1);
    return last.bytesRead === 1 && (await read(fd, byte, 0, 1, size)).bytesRead === 0;
  } catch {
    return false;
  }
}
