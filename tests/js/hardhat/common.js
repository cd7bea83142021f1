// The class that hardhat's network helpers derive their errors from.
exports.CustomError = class extends Error {};
