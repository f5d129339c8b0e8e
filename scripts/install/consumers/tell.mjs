import { capabilities } from 'fdsplice';

console.log(JSON.stringify({ node: process.version, capabilities: capabilities() }));
