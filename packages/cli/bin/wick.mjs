#!/usr/bin/env node
console.log("wick");
