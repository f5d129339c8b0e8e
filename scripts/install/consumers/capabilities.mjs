// Prints the capabilities of the installed package.
import { capabilities } from 'fdsplice';

console.log(JSON.stringify({ node: process.version, capabilities: capabilities() }));
